//! WebSockets through the balancer, in front of servers that are not ours.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { startBackends } from '../harness/backend.mjs';
import { eventually, pause, within } from '../harness/deadline.mjs';
import { Balancer, withBalancer } from '../harness/edge.mjs';

/**
 * @param {(backends: import('../harness/backend.mjs').Backend[], balancer: Balancer) => Promise<void>} use
 * @param {string} [settings]
 */
async function withBackends(use, settings) {
    const backends = await startBackends(3);
    try {
        const balancer = await Balancer.start({ nodes: backends.map(backend => backend.node), settings });
        await withBalancer(balancer, () => use(backends, balancer));
    } finally {
        for (const backend of backends) backend.die();
    }
}

/**
 * A WebSocket with a key, and the name of the server that took it.
 *
 * @param {Balancer} balancer
 * @param {string} key
 */
async function open(balancer, key) {
    const socket = new WebSocket(`${balancer.http.replace('http', 'ws')}/echo`, { headers: { ctstickiness: key } });
    socket.on('error', () => {});
    const [greeting] = await within('greeting', once(socket, 'message'));
    return { socket, ...JSON.parse(greeting) };
}

/**
 * @param {WebSocket} socket
 * @param {Buffer} bytes
 * @returns {Promise<Buffer>}
 */
async function echo(socket, bytes) {
    const answer = within('echo', once(socket, 'message'));
    socket.send(bytes);
    return (await answer)[0];
}

test('a tunnel reaches the node of its key and carries every size of message unharmed', async () => {
    await withBackends(async (_, balancer) => {
        for (let index = 0; index < 12; index += 1) {
            const { socket, node, key } = await open(balancer, `tunnel-${index}`);
            assert.equal(key, `tunnel-${index}`);
            assert.equal((await balancer.admin.explain(key)).node, node);
            for (const size of [0, 1, 125, 126, 65_535, 65_536, 1_000_000]) {
                const bytes = Buffer.alloc(size, index + 1);
                assert.ok((await echo(socket, bytes)).equals(bytes), `${size} bytes`);
            }
            socket.close(1000);
            const [code] = await within('close', once(socket, 'close'));
            assert.equal(code, 1000, 'the goodbye goes through in both directions');
        }
    });
});

test('100 tunnels echo at once, and the balancer counts them', async () => {
    await withBackends(async (_, balancer) => {
        const tunnels = await Promise.all(Array.from({ length: 100 }, (_, index) => open(balancer, `many-${index}`)));
        const { nodes } = await balancer.admin.status();
        const counted = nodes.reduce((/** @type {number} */ total, /** @type {any} */ node) => total + node.tunnels, 0);
        assert.equal(counted, 100);
        for (let round = 0; round < 5; round += 1) {
            await Promise.all(tunnels.map(async ({ socket }, index) => {
                const bytes = Buffer.from(`round ${round} of ${index}`);
                assert.ok((await echo(socket, bytes)).equals(bytes));
            }));
        }
        for (const { socket } of tunnels) socket.close();
        await eventually('end of all tunnels', async () => {
            return (await balancer.admin.status()).nodes.every((/** @type {any} */ node) => node.tunnels === 0);
        });
    });
});

test('a tunnel that is idle within its limit lives, and one beyond it is closed', async () => {
    await withBackends(async (_, balancer) => {
        const idle = await open(balancer, 'idle');
        const busy = await open(balancer, 'busy');
        const closed = once(idle.socket, 'close');
        const start = Date.now();
        while (Date.now() - start < 3_500) {
            // A ping is life too; the idle one says nothing.
            busy.socket.ping();
            await within('pong', once(busy.socket, 'pong'));
            await pause(300);
        }
        await within('close of the idle tunnel', closed);
        assert.ok((await echo(busy.socket, Buffer.from('alive'))).equals(Buffer.from('alive')));
        busy.socket.close();
    }, '[balancer.timeouts]\ntunnel_idle = "2s"\n\n[node.timeouts]\nping_interval = "1s"\n');
});

test('a key with an open tunnel keeps its node when nodes come', async () => {
    const [extra] = await startBackends(1);
    extra.id = 'extra';
    try {
        await withBackends(async (backends, balancer) => {
            const tunnels = await Promise.all(Array.from({ length: 30 }, (_, index) => open(balancer, `kept-${index}`)));
            balancer.write([...backends.map(backend => backend.node), extra.node]);
            balancer.reload();
            await balancer.admin.nodeIs('extra', 'ready');
            for (const { socket, node, key } of tunnels) {
                assert.ok((await echo(socket, Buffer.from('still open'))).equals(Buffer.from('still open')));
                const again = await open(balancer, key);
                assert.equal(again.node, node, key);
                again.socket.close();
                socket.close();
            }
        });
    } finally {
        extra.die();
    }
});

test('when a node dies its tunnels are closed, and their keys find another node', async () => {
    await withBackends(async (backends, balancer) => {
        const { socket, node, key } = await open(balancer, 'orphan');
        const closed = within('close', once(socket, 'close'));
        backends.find(backend => backend.id === node)?.die();
        await closed;
        const again = await open(balancer, key);
        assert.notEqual(again.node, node);
        again.socket.close();
    });
});
