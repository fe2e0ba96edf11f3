//! A node that beats and that nobody reaches any more.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { connect } from 'node:net';
import { test } from 'node:test';
import { withCluster } from '../harness/cluster.mjs';
import { eventually, within } from '../harness/deadline.mjs';
import { meeting } from '../harness/person.mjs';
import { Wire } from '../harness/tcp-proxy.mjs';
import { without } from '../harness/programs.mjs';

const PRLIMIT = without({ prlimit: 'util-linux' });

/** What it says who has no descriptor left. */
const CANNOT_ACCEPT = /WARN.*cannot accept a connection/;

/** How often it says so. @param {import('../harness/process.mjs').Child} child */
function complaints(child) {
    return child.lines.all.filter(line => CANNOT_ACCEPT.test(line)).length;
}

/** Lets a process keep the files that it has open, and get no more; or as many as before. @param {number} pid */
function limitFiles(pid, soft = '3') {
    execFileSync('prlimit', ['--pid', String(pid), `--nofile=${soft}:`]);
}

test('a node that can accept no connection gives its sessions to another and ends', { skip: PRLIMIT }, async () => {
    await withCluster({ nodes: 2 }, async cluster => {
        const balancer = await cluster.balancer();
        await meeting(async meet => {
            const ada = await meet('ada', balancer.http).host();
            const bob = await meet('bob', balancer.http).join(ada.roomId);
            // A client that is cut in the middle of its upgrade finds out at its next ping only.
            await Promise.all([ada.upgraded(), bob.upgraded()]);
            const ids = [ada.peer.id, bob.peer.id];
            const deaf = await cluster.ownerOf(balancer, ada.roomId);
            const other = cluster.nodes.find(node => node !== deaf);
            assert.ok(other);
            limitFiles(deaf.child.pid);
            await deaf.child.line(/its own listener does not answer/, 60_000);
            const { code } = await within('the end of the node', deaf.child.exit.then(() => deaf.child.ended), 60_000);
            assert.equal(code, 1, 'so that whoever watches it starts it again');
            assert.equal(complaints(deaf.child), 1, 'it says so once');
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

test('a node that reaches the store, and that nobody reaches, gives its sessions to another and ends', async () => {
    const wire = await Wire.to('http://127.0.0.1:1');
    // Over before the node finds out, were it not renewed while nobody gets in.
    const settings = '[node.timeouts]\ngrace = "11s"\n';
    await withCluster({ nodes: 2, settings, wire }, async cluster => {
        const balancer = await cluster.balancer();
        const [lonely, other] = cluster.nodes;
        await meeting(async meet => {
            const ada = await cluster.hostAt(lonely, balancer, meet);
            const bob = await meet('bob', balancer.http).join(ada.roomId);
            await Promise.all([ada.upgraded(), bob.upgraded()]);
            const ids = [ada.peer.id, bob.peer.id];
            // From here on nobody connects to it: whoever asks it for its health reaches it.
            wire.close();
            await lonely.child.line(/nobody reaches this node: people look for its sessions elsewhere/, 60_000);
            const { code } = await within('the end of the node', lonely.child.exit.then(() => lonely.child.ended), 60_000);
            assert.equal(code, 1, 'so that whoever watches it starts it again');
            await ada.say('we are here');
            await bob.hears('we are here', 60_000);
            assert.deepEqual([ada.peer.id, bob.peer.id], ids);
            const metrics = await other.metrics();
            assert.ok(metrics.sum('ctedge_node_ownership_total', { event: 'estate_adopted', reason: 'deaf' }) >= 1);
        });
    });
});

test('a node and a balancer that have no descriptor for a while say so, and that it is over', { skip: PRLIMIT }, async () => {
    await withCluster({ nodes: 1 }, async cluster => {
        const [node] = cluster.nodes;
        const balancer = await cluster.balancer();
        const places = [
            { child: node.child, port: node.port },
            { child: balancer.child, port: Number(new URL(balancer.http).port) },
        ];
        for (const { child, port } of places) {
            limitFiles(child.pid);
            const waiting = connect(port, '127.0.0.1');
            waiting.on('error', () => {});
            await child.line(CANNOT_ACCEPT);
            limitFiles(child.pid, '1024');
            const over = await child.line(/connections are accepted again/, 30_000);
            assert.match(over, /failures=[1-9]/);
            assert.equal(complaints(child), 1);
            waiting.destroy();
        }
    });
});
