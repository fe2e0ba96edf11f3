//! What is written down of the edge's use.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';

/** A line a second, as no operator needs it. */
const EVERY_SECOND = '[log]\nusage_interval = "1s"\n';

const USAGE = /^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.000 \+0000) users-online=(\d+) users-in-sessions=(\d+)(?: node=(\S+))?$/;

/**
 * The lines of usage.log: when, how many users online, how many in sessions, and of which node alone.
 *
 * @param {import('../harness/edge.mjs').Edge} edge
 */
function usage(edge) {
    const log = [...edge.logs()].find(([name]) => name.endsWith('usage.log'));
    return (log?.[1] ?? '').split('\n').filter(line => line !== '').map(line => {
        const [, time, online, inSessions, node] = USAGE.exec(line) ?? assert.fail(`usage.log has a line ${line}`);
        return { time, online: Number(online), inSessions: Number(inSessions), node };
    });
}

test('usage.log goes on, one line at a time, when the node that writes it is killed and comes back', async () => {
    await withEdge({ nodes: 2, config: EVERY_SECOND }, async edge => {
        await meeting(async meet => {
            const ada = await meet('ada', edge.http).host();
            await meet('grace', edge.http).join(ada.roomId);
            const more = async (/** @type {number} */ count) => {
                const { length } = usage(edge);
                await eventually(`${count} lines`, () => usage(edge).length >= length + count, 30_000);
            };
            await eventually('two users', () => usage(edge).at(-1)?.online === 2, 30_000);
            for (const id of ['node-1', 'node-2']) {
                const pid = await edge.killNode(id);
                await more(2);
                await edge.admin.nodeIs(id, 'ready');
                assert.notEqual((await edge.admin.node(id)).pid, pid);
                await more(3);
            }
            await eventually('both again', () => usage(edge).at(-1)?.online === 2, 30_000);
        });
        const times = usage(edge).filter(({ node }) => !node).map(({ time }) => time);
        assert.equal(new Set(times).size, times.length, times.join('\n'));
        assert.deepEqual(times, [...times].sort(), 'in order');
    });
});
