//! Nodes that die, come and come back, under load and beside pinned keys.

import assert from 'node:assert/strict';
import { Agent } from 'node:http';
import { test } from 'node:test';
import { Backend, startBackends } from '../harness/backend.mjs';
import { eventually } from '../harness/deadline.mjs';
import { Balancer, withBalancer, withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';
import { byNodeHttp } from '../harness/raw.mjs';

/**
 * @param {number} count
 * @param {(backends: Backend[], balancer: Balancer) => Promise<void>} use
 * @param {string} [settings]
 */
async function withBackends(count, use, settings = '') {
    const backends = await startBackends(count);
    try {
        const balancer = await Balancer.start({ nodes: backends.map(backend => backend.node), settings });
        await withBalancer(balancer, () => use(backends, balancer));
    } finally {
        for (const backend of backends) backend.die();
    }
}

/**
 * Which node serves each key.
 *
 * @param {Balancer} balancer
 * @param {string[]} keys
 * @returns {Promise<Map<string, string>>}
 */
async function placesOf(balancer, keys) {
    const places = new Map();
    for (const key of keys) {
        const answer = await byNodeHttp(`${balancer.http}/`, { headers: { ctstickiness: key } });
        assert.equal(answer.status, 200, `${key}: ${answer.text}`);
        places.set(key, answer.body.node);
    }
    return places;
}

const KEYS = Array.from({ length: 60 }, (_, index) => `key-${index}`);

test('a node killed under 64 busy keep-alive connections fails no request', async () => {
    await withEdge({ args: ['--expose-node'] }, async edge => {
        const load = busy(`${edge.http}/api/meta`, 64);
        await eventually('load on all nodes', () => load.nodes.size === 3 && load.done > 500);
        await edge.killNode('node-2');
        const killedAt = load.done;
        await eventually('load after the kill', () => load.done > killedAt + 2_000, 60_000);
        await edge.admin.nodeIs('node-2', 'ready', 60_000);
        const { done, failures } = await load.stop();
        assert.deepEqual(failures.slice(0, 5), [], `${failures.length} of ${done} requests failed`);
    });
});

/**
 * Keeps `count` connections busy without a pause, each with a key of its own.
 *
 * @param {string} url
 * @param {number} count
 */
function busy(url, count) {
    const load = { done: 0, /** @type {string[]} */ failures: [], nodes: new Set(), stop: async () => load };
    let running = true;
    const connections = Array.from({ length: count }, async (_, index) => {
        const agent = new Agent({ keepAlive: true, maxSockets: 1 });
        while (running) {
            try {
                const answer = await byNodeHttp(url, { agent, headers: { ctstickiness: `busy-${index}` } });
                if (answer.status !== 200) load.failures.push(`${answer.status} ${answer.text.slice(0, 80)}`);
                load.nodes.add(answer.headers['x-ctedge-node']);
            } catch (error) {
                load.failures.push(String(error));
            }
            load.done += 1;
        }
        agent.destroy();
    });
    load.stop = async () => {
        running = false;
        await Promise.all(connections);
        return load;
    };
    return load;
}

test('keys of a dead node go on elsewhere, all others stay where they are', async () => {
    await withBackends(4, async (backends, balancer) => {
        const before = await placesOf(balancer, KEYS);
        backends[1].die();
        await balancer.admin.nodeIs('backend-2', 'down');
        const after = await placesOf(balancer, KEYS);
        for (const key of KEYS) {
            if (before.get(key) === 'backend-2') assert.notEqual(after.get(key), 'backend-2', key);
            else assert.equal(after.get(key), before.get(key), key);
        }
    });
});

test('a node that comes back serves again, and moves no key that settled elsewhere meanwhile', async () => {
    await withBackends(3, async (backends, balancer) => {
        await placesOf(balancer, KEYS);
        backends[0].die();
        await balancer.admin.nodeIs('backend-1', 'down');
        const settled = await placesOf(balancer, KEYS);
        await backends[0].comeBack();
        await balancer.admin.nodeIs('backend-1', 'ready');
        assert.deepEqual(await placesOf(balancer, KEYS), settled, 'what was seen lately keeps its node');
        const fresh = await placesOf(balancer, KEYS.map(key => `fresh-${key}`));
        assert.ok([...fresh.values()].includes('backend-1'), 'the node gets keys again');
    });
});

test('an added node takes its share of keys to come and none that is pinned', async () => {
    const extra = await Backend.start('backend-extra');
    try {
        await withBackends(3, async (backends, balancer) => {
            const before = await placesOf(balancer, KEYS);
            balancer.write([...backends.map(backend => backend.node), extra.node]);
            balancer.reload();
            await balancer.admin.nodeIs('backend-extra', 'ready');
            assert.deepEqual(await placesOf(balancer, KEYS), before);
            const fresh = await placesOf(balancer, KEYS.map(key => `after-${key}`));
            const share = [...fresh.values()].filter(node => node === 'backend-extra').length;
            assert.ok(share >= 5 && share <= 30, `${share} of 60 keys`);
        });
    } finally {
        extra.die();
    }
});

test('an added node takes no session that lives, joiners included', async () => {
    await withEdge({ config: '[up]\nnodes = 2\n', args: ['--expose-node'] }, async edge => {
        await meeting(async meet => {
            const hosts = [];
            for (let number = 0; number < 8; number += 1) hosts.push(await meet(`host ${number}`, edge.http).host());
            edge.addNodes(3);
            await edge.admin.nodesReady(3);
            for (const host of hosts) {
                const guest = await meet(`guest of ${host.name}`, edge.http).join(host.roomId);
                await host.say('still here');
                await guest.hears('still here');
            }
            const { nodes } = await edge.admin.status();
            assert.equal(nodes.find((/** @type {any} */ node) => node.id === 'node-3').sessions, 0);
        });
    });
});

test('a reload that is wrong changes nothing and says why', async () => {
    await withBackends(2, async (backends, balancer) => {
        const before = await placesOf(balancer, KEYS);
        balancer.write([backends[0].node, { id: 'broken', address: 'no address' }]);
        const { status, body } = await balancer.admin.call('/reload', 'POST');
        assert.equal(status, 400);
        assert.match(body.error, /no address/);
        assert.deepEqual(await placesOf(balancer, KEYS), before);
        balancer.write(backends.map(backend => backend.node));
        assert.equal((await balancer.admin.call('/reload', 'POST')).status, 200);
    });
});

test('with every node down, programs and people are told to come again', async () => {
    await withBackends(2, async (backends, balancer) => {
        for (const backend of backends) backend.die();
        for (const backend of backends) await balancer.admin.nodeIs(backend.id, 'down');
        const program = await byNodeHttp(`${balancer.http}/api/meta`);
        assert.equal(program.status, 503);
        assert.ok(Number(program.headers['retry-after']) > 0);
        assert.match(program.headers['content-type'], /json/);
        assert.equal(typeof program.body.code, 'string');
        assert.deepEqual(program.body.params, []);
        const person = await byNodeHttp(`${balancer.http}/`, { headers: { accept: 'text/html,*/*;q=0.8' } });
        assert.equal(person.status, 503);
        assert.ok(Number(person.headers['retry-after']) > 0);
        assert.match(person.headers['content-type'], /html/);
        assert.match(person.text, /<html/);
        const health = await byNodeHttp(`${balancer.http}/ct-health/`);
        assert.equal(health.status, 503);
        await backends[0].comeBack();
        await balancer.admin.nodeIs(backends[0].id, 'ready');
        assert.equal((await byNodeHttp(`${balancer.http}/`)).status, 200);
        assert.equal((await byNodeHttp(`${balancer.http}/ct-health/`)).status, 200);
    });
});
