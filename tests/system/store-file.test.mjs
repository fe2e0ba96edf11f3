//! The file of a SQLite store is taken away, put back or lost while nodes use it.

import assert from 'node:assert/strict';
import { renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { withCluster } from '../harness/cluster.mjs';
import { eventually } from '../harness/deadline.mjs';
import { everybodyBack } from '../harness/numbered.mjs';
import { meeting } from '../harness/person.mjs';
import { byNodeHttp } from '../harness/raw.mjs';

test('while the file of the store is gone sessions go on and none begins, until it is back', async () => {
    await withCluster({ nodes: 2 }, async cluster => {
        const balancer = await cluster.balancer();
        const file = path.join(cluster.data, 'ctedge.db');
        await meeting(async meet => {
            const ada = await meet('ada', balancer.http).host();
            const bob = await meet('bob', balancer.http).join(ada.roomId);
            const login = await meet('late', balancer.http).login();
            renameSync(file, `${file}.kept`);
            for (const node of cluster.nodes) {
                await node.storeIs('unreachable');
                assert.match((await node.health()).trouble, /the file .*ctedge\.db of the store is gone/);
            }
            // For longer than a lease lives without a beat.
            await eventually('a node that goes on without the store', async () => {
                return await cluster.sum('ctedge_node_ownership_total', { event: 'cut_off' }) === 2;
            });
            await ada.say('does not matter');
            await bob.hears('does not matter');
            const refused = await byNodeHttp(`${balancer.http}/api/session/create`, { method: 'POST', headers: { 'x-oct-jwt': login } });
            assert.equal(refused.status, 503, refused.text);

            renameSync(`${file}.kept`, file);
            for (const node of cluster.nodes) {
                await node.storeIs('ok');
                assert.equal((await node.health()).trouble, undefined);
            }
            await eventually('new session', () => meet('dan', balancer.http).host());
            await bob.say('all is well');
            await ada.hears('all is well');
            assert.equal(await cluster.sum('ctedge_node_ownership_total', { event: 'lease_lost' }), 0);
        });
    });
});

test('when the file of the store is lost and there is a new one, all nodes go on with that, and one of them has the session', async () => {
    await withCluster({ nodes: 3 }, async cluster => {
        const balancer = await cluster.balancer();
        await meeting(async meet => {
            const ada = await meet('ada', balancer.http).host();
            const bob = await meet('bob', balancer.http).join(ada.roomId);
            const owner = await cluster.ownerOf(balancer, ada.roomId);
            const other = cluster.nodes.find(node => node !== owner);
            assert.ok(other);
            const before = await Promise.all(cluster.nodes.map(async node => (await node.health()).incarnation));
            for (const person of [ada, bob]) await person.upgraded();
            const back = everybodyBack([ada, bob], 90_000);
            rmSync(path.join(cluster.data, 'ctedge.db'));
            // A node that begins makes the file.
            other.child.kill('SIGKILL');
            await other.child.exit;
            other.start();
            await eventually('every node with another lease', async () => {
                const now = await Promise.all(cluster.nodes.map(async node => node.health()));
                return now.every((health, index) => health.incarnation !== before[index] && health.store === 'ok');
            }, 60_000);
            for (const node of cluster.nodes) assert.equal((await node.health()).trouble, undefined);
            // Its host brings the session back.
            await back;
            await ada.say('here again');
            await bob.hears('here again', 60_000);
            const cyd = await meet('cyd', balancer.http).join(ada.roomId);
            await cyd.say('and I');
            await ada.hears('and I');
            await eventually('one session', async () => {
                const sessions = await Promise.all(cluster.nodes.map(async node => (await node.health()).sessions));
                return sessions.reduce((sum, count) => sum + count, 0) === 1;
            });
        });
    });
});
