//! Whatever moves a session says why, in the figures of a node that is left.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withCluster } from '../harness/cluster.mjs';
import { eventually } from '../harness/deadline.mjs';
import { withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';

/** @typedef {import('../harness/edge.mjs').Edge} Edge */

/**
 * What all nodes that run have counted.
 *
 * @param {Edge} edge
 * @param {string} event
 * @param {string} reason
 */
async function counted(edge, event, reason) {
    const { nodes } = await edge.admin.status();
    const running = nodes.filter((/** @type {any} */ node) => node.state !== 'down');
    const metrics = await Promise.all(running.map((/** @type {any} */ node) => edge.admin.nodeMetrics(node.id)));
    return metrics.reduce((sum, node) => sum + node.sum('ctedge_node_ownership_total', { event, reason }), 0);
}

/** @type {{ order: string, event: string, reason: string, give: (edge: Edge, node: any) => Promise<unknown> | void }[]} */
const ORDERS = [
    {
        order: 'drained with a deadline', event: 'estate_adopted', reason: 'drain_deadline',
        give: (edge, { id }) => edge.operate(['drain', id, '--deadline', '1s', '--wait']),
    },
    { order: 'drained at once', event: 'estate_adopted', reason: 'drain_now', give: (edge, { id }) => edge.operate(['drain', id, '--now', '--wait']) },
    { order: 'restarted', event: 'estate_adopted', reason: 'restart', give: (edge, { id }) => edge.operate(['restart', id]) },
    { order: 'told to end', event: 'estate_adopted', reason: 'stop', give: (_, { pid }) => void process.kill(pid, 'SIGTERM') },
    { order: 'killed', event: 'taken_over', reason: 'exited', give: (_, { pid }) => void process.kill(pid, 'SIGKILL') },
];

test('each way in which a session comes to another node is counted with its reason', async () => {
    await withEdge({ nodes: 3 }, edge => meeting(async meet => {
        const ada = await meet('ada', edge.http).host();
        const bob = await meet('bob', edge.http).join(ada.roomId);
        for (const { order, event, reason, give } of ORDERS) {
            const { node: id } = await edge.admin.explain(ada.roomId);
            const node = await edge.admin.node(id);
            assert.equal(await counted(edge, event, reason), 0);
            await give(edge, node);
            // Logins that wait come along with sessions.
            await eventually(`${event} for ${reason}`, async () => await counted(edge, event, reason) >= 1, 60_000);
            await ada.say(order);
            await bob.hears(order, 30_000);
            await eventually('its end', async () => (await edge.listed(id)).pid !== node.pid, 60_000);
            if ((await edge.listed(id)).state === 'drained') await edge.operate(['start', id]);
            await edge.admin.anotherProcess(id, node.pid);
            await edge.admin.nodesReady(3);
        }
        // Everybody was sent on by a node, or by the balancer, which say so.
        const metrics = await edge.admin.metrics();
        assert.ok(metrics.sum('ctedge_balancer_places_total', { reason: 'handoff' }) >= 1);
        assert.ok(metrics.sum('ctedge_balancer_redirects_total', { reason: 'handoff' }) >= 1);
        assert.equal(metrics.sum('ctedge_balancer_pins_lost_total', { reason: 'evicted_with_tunnel' }), 0);
        assert.ok(metrics.has('ctedge_balancer_pins_lost_total'));
    }));
});

test('a session that nobody comes back to after its node has died is counted as lost, and said to be', async () => {
    await withCluster({ nodes: 2, settings: '[node.timeouts]\ngrace = "10s"\n' }, async cluster => {
        const balancer = await cluster.balancer();
        await meeting(async meet => {
            const [dying, other] = cluster.nodes;
            const host = await cluster.hostAt(dying, balancer, meet);
            // The client goes first: a request that waited would go to the other node, which would take the session up.
            await host.upgraded();
            host.close();
            await eventually('nobody at the node', async () => (await dying.health()).connections === 0);
            dying.child.kill('SIGKILL');
            // The store keeps it for the grace period and half a minute.
            await eventually('a lost session', async () => {
                return (await other.metrics()).sum('ctedge_node_sessions_lost_total', { reason: 'nobody_came' }) === 1;
            }, 90_000);
            await other.child.line(new RegExp(`event="ended" reason="lost" session=${host.roomId}`));
        });
    });
});
