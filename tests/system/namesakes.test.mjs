//! Two nodes that are set up with one address.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Node, withCluster } from '../harness/cluster.mjs';
import { eventually } from '../harness/deadline.mjs';
import { freePort } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';
import { ctedge } from '../harness/process.mjs';

test('two nodes with one address say so, and leave each other alone', async () => {
    await withCluster({ nodes: 1 }, async cluster => {
        const [first] = cluster.nodes;
        const balancer = await cluster.balancer();
        await meeting(async meet => {
            const ada = await meet('ada', balancer.http).host();
            const bob = await meet('bob', balancer.http).join(ada.roomId);
            const port = await freePort();
            const file = path.join(cluster.data, 'twin.toml');
            const own = `id = "twin"\naddress = "${first.address}"\nlisten = "127.0.0.1:${port}"\n`;
            writeFileSync(file, `data = "${cluster.data}"\n\n[[nodes]]\n${own}`);
            const twin = new Node('twin', port, file);
            cluster.nodes.push(twin);

            const sentence = new RegExp(`the nodes \\S+ and \\S+ both say that they are reached at ${first.address}`);
            for (const node of cluster.nodes) {
                await eventually(`word of ${node.id}`, async () => sentence.test((await node.health()).trouble ?? ''), 60_000);
                await node.child.line(sentence);
            }
            const before = await Promise.all(cluster.nodes.map(node => node.health()));
            // Heartbeats enough to end each other many times over.
            const beats = async () => await first.metrics().then(metrics => metrics.sum('ctedge_node_store_commands_total'));
            const enough = await beats() + 8;
            await eventually('heartbeats', async () => await beats() >= enough, 30_000);
            for (const [index, node] of cluster.nodes.entries()) {
                assert.equal((await node.health()).incarnation, before[index].incarnation);
            }
            for (const event of ['lease_lost', 'ended_former_lease', 'ended_silent_lease', 'fenced']) {
                assert.equal(await cluster.sum('ctedge_node_ownership_total', { event }), 0, event);
            }
            const { output } = await ctedge(['status', '--admin', balancer.admin.address]);
            assert.match(output, sentence);
            await ada.say('we go on');
            await bob.hears('we go on');

            twin.child.kill('SIGKILL');
            await eventually('the end of the trouble', async () => (await first.health()).trouble === undefined, 30_000);
            await bob.say('all is well');
            await ada.hears('all is well');
        });
    });
});
