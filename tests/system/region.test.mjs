//! Nodes in several regions.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withCluster } from '../harness/cluster.mjs';
import { withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';

test('CT_REGION is the region of the nodes of a machine, and operators see it', async () => {
    await withEdge({ nodes: 1, env: { CT_REGION: 'eu-west' } }, async edge => {
        assert.match(await edge.operate(['status']), /^NODE +STATE +REGION .*\nnode-1 +ready +eu-west /m);
        assert.equal((await edge.admin.node('node-1')).region, 'eu-west');
    });
});

test('new sessions begin in the region of the balancer that they come to, and are found from every other', async () => {
    const region = (/** @type {string} */ name) => `region = "${name}"\n`;
    await withCluster({ settings: number => region(number === 1 ? 'us' : 'eu') }, async cluster => {
        const [eu, us] = [await cluster.balancer({ top: region('eu') }), await cluster.balancer({ top: region('us') })];
        await meeting(async meet => {
            for (let count = 0; count < 4; count += 1) {
                const host = await meet(`host-${count}`, eu.http).host();
                assert.notEqual((await eu.admin.explain(host.roomId)).node, 'node-1');
                const guest = await meet(`guest-${count}`, us.http).join(host.roomId);
                await guest.say(`hello ${count}`);
                await host.hears(`hello ${count}`);
                const far = await meet(`far-${count}`, us.http).host();
                assert.equal((await us.admin.explain(far.roomId)).node, 'node-1');
            }
        });
    });
});
