//! Balancers are killed, or are many, and nothing depends on any one of them.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import { withCluster } from '../harness/cluster.mjs';
import { eventually } from '../harness/deadline.mjs';
import { Edge, freePort, temporaryDirectory, withEdge } from '../harness/edge.mjs';
import { Conversations, Numbered, ON_ITS_WAY_MS, assertFate, assertSamePeers, disconnects, everybodyBack, report, threePeople } from '../harness/numbered.mjs';
import { meeting } from '../harness/person.mjs';
import { byNodeHttp } from '../harness/raw.mjs';
import { STORES } from '../harness/stores.mjs';
import { Switch } from '../harness/switch.mjs';
import { Wire } from '../harness/tcp-proxy.mjs';

test('a balancer that is killed costs its sockets and nothing else', async t => {
    await withEdge({ nodes: 2 }, edge => meeting(async meet => {
        const people = await threePeople(meet, edge.http);
        const ids = people.map(person => person.peer.id);
        const numbered = new Numbered(people);
        await eventually('conversation', () => numbered.count > 100);
        const { balancer } = await edge.admin.status();
        const from = Date.now() - ON_ITS_WAY_MS;
        const back = everybodyBack(people);
        process.kill(balancer.pid, 'SIGKILL');
        const to = await back;
        const settled = numbered.count + 100;
        await eventually('more conversation', () => numbered.count > settled);
        const fate = await numbered.end();
        // Only what a client had written into the dead balancer's socket, and nobody has read, is lost; to everybody.
        report(t, fate);
        assertFate(fate, { from, to });
        assert.ok(fate.lost.every(({ missed }) => missed === people.length - 1), 'what a node has taken reaches everybody');
        assertSamePeers(people, ids);
        assert.notEqual((await edge.admin.status()).balancer.pid, balancer.pid);
    }));
});

for (const transport of /** @type {const} */ (['websocket', 'polling', undefined])) {
    const by = transport ?? 'polling until their upgrade';
    test(`a balancer that is told to stop sends everybody away, and nothing is lost until it is there again, by ${by}`, async t => {
        await withCluster({ nodes: 2 }, cluster => meeting(async meet => {
            const balancer = await cluster.balancer();
            const options = { sessions: 4, peers: 3, everyMs: 5, transport };
            const conversations = await Conversations.start(meet, balancer.http, options);
            for (let times = 0; times < 3; times += 1) {
                await conversations.goOn(20);
                const { child } = balancer;
                assert.equal(await child.stop(), 0);
                assert.ok(!child.output.includes('the time to stop is over'), 'nobody had to be cut off');
                balancer.launch();
            }
            await conversations.goOn();
            await conversations.assertNothingHappened(t);
        }));
    });
}

test('who polls and says nothing is sent away from a balancer that stops, too', async () => {
    await withCluster({ nodes: 2 }, cluster => meeting(async meet => {
        const balancer = await cluster.balancer();
        const host = await meet('host', balancer.http).only('polling').host();
        const guest = await meet('guest', balancer.http).only('polling').join(host.roomId);
        await eventually('a waiting request of each', async () => {
            return (await balancer.admin.status()).balancer.requests_in_flight === 2;
        });
        const { child } = balancer;
        assert.equal(await child.stop(), 0);
        assert.ok(!child.output.includes('the time to stop is over'), 'nobody had to be cut off');
        for (const { name, heard } of [host, guest]) assert.ok(heard.all.some(disconnects), `${name} was sent away`);
        balancer.launch();
        await host.say('good morning');
        await guest.hears('good morning', 30_000);
    }));
});

for (const { name, skip, open } of STORES) {
    test(`people of one balancer that is killed go on through another, whose node is then drained, on ${name}`, { skip }, async t => {
        await open(settings => withCluster({ nodes: 3, settings }, async cluster => {
            const [first, second] = [await cluster.balancer(), await cluster.balancer()];
            // A name that leads to one of them, and to the other when that is gone.
            const door = await Wire.to(first.http);
            try {
                await meeting(async meet => {
                    const people = await threePeople(meet, door.url);
                    const ids = people.map(person => person.peer.id);
                    const numbered = new Numbered(people);
                    await eventually('conversation', () => numbered.count > 100);
                    const from = Date.now() - ON_ITS_WAY_MS;
                    const back = everybodyBack(people);
                    door.target = new URL(second.http);
                    first.child.kill('SIGKILL');
                    const to = await back;
                    const owner = await cluster.ownerOf(second, people[0].roomId);
                    const moved = everybodyBack(people);
                    assert.equal((await second.admin.call(`/nodes/${owner.id}/drain?now=true`, 'POST')).status, 200);
                    await moved;
                    await eventually('another owner', async () => (await cluster.ownerOf(second, people[0].roomId)) !== owner);
                    const settled = numbered.count + 100;
                    await eventually('more conversation', () => numbered.count > settled);
                    const fate = await numbered.end();
                    report(t, fate);
                    // The drain loses nothing: it lies outside of the window.
                    assertFate(fate, { from, to });
                    assertSamePeers(people, ids);
                });
            } finally {
                door.close();
            }
        }));
    });

    test(`an edge of which every process was killed goes on when it is started again, on ${name}`, { skip }, async t => {
        await open(async config => {
            const data = temporaryDirectory('again');
            const http = `127.0.0.1:${await freePort()}`;
            try {
                const first = await Edge.start({ data, http, config, nodes: 2 });
                await meeting(async meet => {
                    const people = await threePeople(meet, first.http);
                    const ids = people.map(person => person.peer.id);
                    const numbered = new Numbered(people);
                    await eventually('conversation', () => numbered.count > 100);
                    const from = Date.now() - ON_ITS_WAY_MS;
                    const back = everybodyBack(people);
                    await first.crash();
                    const second = await Edge.start({ data, http, config, nodes: 2 });
                    try {
                        const to = await back;
                        const fate = await numbered.end();
                        report(t, fate);
                        assertFate(fate, { from, to });
                        assertSamePeers(people, ids);
                        await second.stop();
                    } finally {
                        await second.destroy(false);
                    }
                });
            } finally {
                rmSync(data, { recursive: true, force: true });
            }
        });
    });
}

for (const { name, skip, open } of STORES) {
    test(`balancers that started at different times, with an old list of nodes, agree, on ${name}`, { skip }, async () => {
        await open(settings => withCluster({ nodes: 3, settings }, async cluster => {
            const early = await cluster.balancer();
            await meeting(async meet => {
                const hosts = [];
                for (let number = 0; number < 9; number += 1) hosts.push(await meet(`host ${number}`, early.http).host());
                const owners = await Promise.all(hosts.map(host => cluster.ownerOf(early, host.roomId)));
                // It knows one node alone, so that it looks for most of the sessions in the wrong place.
                const old = await cluster.balancer({ nodes: [cluster.nodes[0]] });
                const late = await cluster.balancer();
                for (const [number, host] of hosts.entries()) {
                    for (const balancer of [old, late]) {
                        const guest = await meet(`guest ${number}`, balancer.http).join(host.roomId);
                        await guest.upgraded();
                        await guest.say(`through ${balancer.http}`);
                        await host.hears(`through ${balancer.http}`);
                        await host.say(`hello ${balancer.http}`);
                        await guest.hears(`hello ${balancer.http}`);
                        const { node, pin } = await balancer.admin.explain(host.roomId);
                        assert.equal(node, owners[number].id, 'all balancers know the session at one node');
                        assert.equal(pin.node, owners[number].id);
                        await guest.leave();
                    }
                }
                const strangers = owners.filter(owner => owner !== cluster.nodes[0]).length;
                assert.ok(strangers > 0, 'not all sessions are on one node');
                const { admin } = old;
                const followed = await redirects(old);
                assert.ok(followed >= strangers, `${followed} redirects for ${strangers} sessions`);
                assert.ok((await admin.metrics()).sum('ctedge_balancer_places_total', { reason: 'redirect' }) >= strangers);
                assert.ok(await cluster.sum('ctedge_node_ownership_total', { event: 'redirected' }) >= strangers);
                const stranger = hosts[owners.findIndex(owner => owner !== cluster.nodes[0])];
                const again = await meet('again', old.http).join(stranger.roomId);
                await again.upgraded();
                assert.equal(await redirects(old), followed, 'a pin spares the next one the redirect');
            });
        }));
    });
}

/** More than a balancer keeps of a body in order to send it again. */
const much = () => randomBytes(600_000).toString('base64');

/**
 * Lets a guest that polls post much through a balancer that sees nothing else of it, and hears that nothing is lost.
 *
 * @param {any} guest
 * @param {any} host
 * @param {Switch} way
 * @param {{ http: string }} balancer
 */
async function postsMuch(guest, host, way, { http }) {
    const { id } = guest.socket;
    way.largeTarget = http;
    const said = ['before', much(), 'after'].map(text => `${text} through ${http}`);
    for (const text of said) await guest.say(text);
    await host.hears(said[2], 30_000);
    assert.deepEqual(host.chat.slice(-3), said);
    assert.equal(guest.socket.id, id, 'the transport has gone on');
    await eventually('answer to the large body', () => way.largeAnswers(http).length > 0);
    assert.deepEqual(way.largeAnswers(http), [200]);
}

/** How often a balancer was sent on to an owner. @param {import('../harness/edge.mjs').Balancer} balancer */
const redirects = async ({ admin }) => (await admin.metrics()).sum('ctedge_balancer_retries_total', { reason: 'redirect_owner' });

test('much that a polling client posts is not lost at a balancer that takes another node for the owner', async () => {
    await withCluster({ nodes: 3 }, async cluster => {
        const early = await cluster.balancer();
        const way = await Switch.to(early.http);
        try {
            await meeting(async meet => {
                const host = await meet('host', early.http).host();
                const guest = await meet('guest', way.url).only('polling').join(host.roomId);
                const owner = await cluster.ownerOf(early, host.roomId);
                // Their lists of nodes are old: the session is none of these.
                const others = cluster.nodes.filter(node => node !== owner);
                for (const hidesLength of [false, true]) {
                    const fresh = await cluster.balancer({ nodes: others });
                    way.hidesLength = hidesLength;
                    await postsMuch(guest, host, way, fresh);
                    assert.equal(await redirects(fresh), 1, 'it has looked for the session in the wrong place');
                }
            });
        } finally {
            way.close();
        }
    });
});

test('much that a polling client posts is not lost at a balancer that has not heard that the session went on', async () => {
    await withCluster({ nodes: 2 }, async cluster => {
        const early = await cluster.balancer();
        const stale = await cluster.balancer();
        const way = await Switch.to(stale.http);
        try {
            await meeting(async meet => {
                const host = await meet('host', early.http).host();
                const guest = await meet('guest', way.url).only('polling').join(host.roomId);
                const owner = await cluster.ownerOf(stale, host.roomId);
                way.target = early.http;
                assert.equal((await early.admin.call(`/nodes/${owner.id}/drain?now=true`, 'POST')).status, 200);
                await eventually('handoff', async () => (await owner.health()).sessions === 0, 30_000);
                await eventually('return', () => host.socket.connected && guest.socket.connected, 30_000);
                await guest.say('here again');
                await host.hears('here again', 30_000);
                assert.equal(await cluster.ownerOf(stale, host.roomId), owner, 'its pin is stale');
                await postsMuch(guest, host, way, stale);
                assert.notEqual(await cluster.ownerOf(stale, host.roomId), owner);
            });
        } finally {
            way.close();
        }
    });
});

test('an owner that cannot be reached, though it lives, is not asked for ever', async () => {
    await withCluster({ nodes: 2 }, async cluster => {
        const early = await cluster.balancer();
        await meeting(async meet => {
            const host = await meet('host', early.http).host();
            const login = await meet('guest', early.http).login();
            const owner = await cluster.ownerOf(early, host.roomId);
            const other = cluster.nodes.find(node => node !== owner);
            assert.ok(other);
            // This one's list leads to the owner over an address where nobody listens, as a broken network does.
            const closed = `127.0.0.1:${await freePort()}`;
            const lost = await cluster.balancer({ nodes: [other] });
            lost.write([{ id: other.id, address: other.address }, { id: owner.id, address: closed }]);
            assert.equal((await lost.admin.call('/reload', 'POST')).status, 200);
            const began = Date.now();
            const url = `${lost.http}/api/session/join/${host.roomId}`;
            const refused = await byNodeHttp(url, { method: 'POST', headers: { 'x-oct-jwt': login } });
            const took = Date.now() - began;
            assert.equal(refused.status, 503, refused.text);
            assert.ok(Number(refused.headers['retry-after']) > 0);
            assert.ok(took < 12_000, `it took ${took} ms`);
            const answers = await cluster.sum('ctedge_node_asked_total', { verdict: 'owner_unreachable' });
            assert.ok(answers >= 1, 'the node says why');
            // Whoever can reach it has lost nothing.
            const guest = await meet('guest', early.http).join(host.roomId);
            await guest.say('here');
            await host.hears('here');
        });
    });
});
