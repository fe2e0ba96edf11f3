//! An edge whose nodes keep their sessions in a PostgreSQL from Debian's packages.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withEdge } from '../harness/edge.mjs';
import { withPostgres, withoutPostgres } from '../harness/postgres.mjs';
import { workTogether } from '../harness/story.mjs';

const skip = withoutPostgres();

test('people work together over nodes that share a PostgreSQL', { skip }, async () => {
    await withPostgres(async postgres => {
        await withEdge({ nodes: 2, config: postgres.settings() }, async edge => {
            await workTogether(edge.http);
            const leases = await postgres.sql('SELECT count(DISTINCT node) FROM leases WHERE ended = 0');
            assert.equal(leases, '2', 'both nodes have their lease there');
        });
    });
});
