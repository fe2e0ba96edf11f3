//! A node that beats and that nobody reaches any more.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { withCluster } from '../harness/cluster.mjs';
import { eventually, within } from '../harness/deadline.mjs';
import { meeting } from '../harness/person.mjs';
import { without } from '../harness/programs.mjs';

const PRLIMIT = without({ prlimit: 'util-linux' });

test('a node that can accept no connection gives its sessions to another and ends', { skip: PRLIMIT }, async () => {
    await withCluster({ nodes: 2 }, async cluster => {
        const balancer = await cluster.balancer();
        await meeting(async meet => {
            const ada = await meet('ada', balancer.http).host();
            const bob = await meet('bob', balancer.http).join(ada.roomId);
            const ids = [ada.peer.id, bob.peer.id];
            const deaf = await cluster.ownerOf(balancer, ada.roomId);
            const other = cluster.nodes.find(node => node !== deaf);
            assert.ok(other);
            // It keeps the files that it has open, and gets no more.
            execFileSync('prlimit', ['--pid', String(deaf.child.pid), '--nofile=3:']);
            await deaf.child.line(/its own listener does not answer/, 60_000);
            const { code } = await within('the end of the node', deaf.child.exit.then(() => deaf.child.ended), 60_000);
            assert.equal(code, 1, 'so that whoever watches it starts it again');
            await eventually('the session at the other node', async () => {
                const metrics = await other.metrics();
                return metrics.sum('ctedge_node_ownership_total', { event: 'estate_adopted', reason: 'deaf' }) >= 1;
            });
            await ada.say('we are here');
            await bob.hears('we are here', 60_000);
            assert.deepEqual([ada.peer.id, bob.peer.id], ids);
            assert.equal((await cluster.ownerOf(balancer, ada.roomId)).id, other.id);
        });
    });
});
