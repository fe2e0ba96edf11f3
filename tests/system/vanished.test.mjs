//! Clients whose machine or network is gone from one moment to the next: nothing says so, not even a FIN.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { startBackends } from '../harness/backend.mjs';
import { eventually } from '../harness/deadline.mjs';
import { Balancer, withBalancer } from '../harness/edge.mjs';
import { Namespace, withoutNamespaces } from '../harness/namespace.mjs';
import { Child } from '../harness/process.mjs';

const LISTENER = path.join(import.meta.dirname, '../harness/listener.mjs');

test('a client that vanishes without a word gives its places back', { skip: withoutNamespaces() }, async () => {
    const [backend] = await startBackends(1);
    const elsewhere = new Namespace();
    try {
        const settings = '[balancer.timeouts]\nunacknowledged = "2s"\n';
        const balancer = await Balancer.start({ nodes: [backend.node], host: elsewhere.host, settings });
        await withBalancer(balancer, async () => {
            const places = async () => {
                const { connections, tunnels } = (await balancer.admin.status()).balancer;
                return { connections, tunnels };
            };
            const url = `${balancer.http.replace('http', 'ws')}/echo`;
            const command = elsewhere.running(process.execPath, LISTENER, url, 'idle', 'talked-to');
            const client = new Child('client elsewhere', 'ip', command);
            for (const key of ['idle', 'talked-to']) await client.line(new RegExp(`^${key} heard`));
            assert.deepEqual(await places(), { connections: 2, tunnels: 2 });

            elsewhere.cut();
            // What is sent to one of them stays unacknowledged; the other has nothing to acknowledge.
            backend.tunnels.get('talked-to')?.send('are you there?');
            await eventually('end of both tunnels', async () => {
                const { connections, tunnels } = await places();
                return connections === 0 && tunnels === 0;
            });
            client.killGroup('SIGKILL');
            await client.exit;
        });
    } finally {
        elsewhere.destroy();
        backend.die();
    }
});
