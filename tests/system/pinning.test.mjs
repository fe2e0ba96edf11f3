//! Pinning alone, in front of servers that know nothing of it: every way to name a key, and clients of three kinds.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBackends } from '../harness/backend.mjs';
import { Balancer, withEdge } from '../harness/edge.mjs';
import { byFetch, byNodeHttp, bySocket, exchange, keyCookie } from '../harness/raw.mjs';
import { meeting } from '../harness/person.mjs';
import { controlToken } from '../harness/tokens.mjs';

/** @type {import('../harness/backend.mjs').Backend[]} */
let backends;
/** @type {Balancer} */
let balancer;

before(async () => {
    backends = await startBackends(4);
    balancer = await Balancer.start({ nodes: backends.map(backend => backend.node) });
});

after(async () => {
    await balancer.destroy();
    for (const backend of backends) backend.die();
});

const KEYS = Array.from({ length: 40 }, (_, index) => `session-${index}`);

/** @param {Record<string, string | string[]>} headers */
async function ask(headers, path = '/work') {
    const answer = await byNodeHttp(balancer.http + path, { headers });
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.headers['x-ctedge-node'], answer.body.node, 'the header tells the truth');
    return answer;
}

test('a header alone pins, and sets no cookie', async () => {
    const used = new Set();
    for (const key of KEYS) {
        const first = await ask({ ctstickiness: key });
        assert.equal(first.body.headers.ctstickiness, key, 'the node is told the key');
        assert.equal(keyCookie(first), undefined, 'a client with a header is no browser');
        for (let again = 0; again < 3; again += 1) {
            assert.equal((await ask({ ctstickiness: key })).body.node, first.body.node, key);
        }
        used.add(first.body.node);
    }
    assert.equal(used.size, backends.length, '40 keys use all nodes');
});

test('a query parameter alone pins, to the same node as the header', async () => {
    for (const key of KEYS) {
        const { body } = await ask({}, `/work?a=b&ctstickiness=${key}`);
        assert.equal(body.headers.ctstickiness, key);
        assert.equal(body.node, (await ask({ ctstickiness: key })).body.node);
        assert.equal(body.path, `/work?a=b&ctstickiness=${key}`, 'the node sees what was asked');
    }
});

test('a cookie alone pins, to the same node as the header', async () => {
    for (const key of KEYS) {
        const answer = await ask({ cookie: `theme=dark; ctstickiness=${key}` });
        assert.equal(answer.body.headers.ctstickiness, key);
        assert.equal(answer.body.node, (await ask({ ctstickiness: key })).body.node);
        assert.equal(keyCookie(answer), undefined, 'a cookie that is right is not set again');
    }
});

test('header and cookie that agree are one key; when they disagree the header wins and the cookie is set anew', async () => {
    const both = await ask({ ctstickiness: 'agreed', cookie: 'ctstickiness=agreed' });
    assert.equal(both.body.headers.ctstickiness, 'agreed');
    assert.equal(keyCookie(both), undefined);
    const conflict = await ask({ ctstickiness: 'by-header', cookie: 'ctstickiness=by-cookie' });
    assert.equal(conflict.body.headers.ctstickiness, 'by-header');
    assert.equal(conflict.body.node, (await ask({ ctstickiness: 'by-header' })).body.node);
    assert.equal(keyCookie(conflict)?.value, 'by-header');
});

test('a malformed key counts as none, in the header as in the cookie', async () => {
    const malformed = ['', 'two words', 'semi;colon', 'x'.repeat(129), 'a/b', '"quoted"'];
    for (const text of malformed) {
        const answer = await ask({ ctstickiness: text });
        const minted = keyCookie(answer)?.value;
        assert.match(minted ?? '', /^[0-9A-Za-z]{24}$/, `${JSON.stringify(text)} is replaced`);
        assert.equal(answer.body.headers.ctstickiness, minted);
    }
    const fallback = await ask({ ctstickiness: 'two words', cookie: 'ctstickiness=sound' });
    assert.equal(fallback.body.headers.ctstickiness, 'sound', 'the next source counts');
    const broken = await ask({ cookie: 'ctstickiness="a b"' });
    assert.match(keyCookie(broken)?.value ?? '', /^[0-9A-Za-z]{24}$/);
    const metrics = (await balancer.admin.call('/metrics')).text;
    const counted = /^ctedge_\w*malformed\w*(?:\{[^}]*\})? (\d+)/m.exec(metrics);
    assert.ok(counted && Number(counted[1]) >= 6, 'malformed keys are counted');
});

test('who names no key gets one by cookie, is bound to it, and shares it with nobody', async () => {
    const minted = new Set();
    for (let visitor = 0; visitor < 20; visitor += 1) {
        const first = await ask({});
        const cookie = keyCookie(first);
        assert.ok(cookie);
        assert.deepEqual(cookie.attributes.sort(), ['httponly', 'path=/', 'samesite=lax']);
        for (let again = 0; again < 3; again += 1) {
            const next = await ask({ cookie: `ctstickiness=${cookie.value}` });
            assert.equal(next.body.node, first.body.node);
            assert.equal(keyCookie(next), undefined);
        }
        minted.add(cookie.value);
    }
    assert.equal(minted.size, 20);
});

test('three different clients with one key meet at one node', async () => {
    for (const key of KEYS) {
        const url = `${balancer.http}/work`;
        const answers = await Promise.all([
            byNodeHttp(url, { headers: { ctstickiness: key } }),
            byFetch(url, { headers: { ctstickiness: key } }),
            bySocket(url, { headers: { ctstickiness: key } }),
            byFetch(`${url}?ctstickiness=${key}`),
            bySocket(url, { headers: { Cookie: `ctstickiness=${key}` } }),
        ]);
        assert.equal(new Set(answers.map(answer => answer.body.node)).size, 1, key);
        assert.ok(answers.every(answer => answer.body.headers.ctstickiness === key));
    }
});

test('explain names the node that a key goes to, before and after it was used', async () => {
    const before = await balancer.admin.explain('explained');
    assert.equal(before.key, 'explained');
    assert.ok(before.reason);
    const { body } = await ask({ ctstickiness: 'explained' });
    assert.equal(body.node, before.node);
    assert.equal((await balancer.admin.explain('explained')).node, body.node);
});

test('a node is told who asks, and nothing that only the cluster may say', async () => {
    const { body } = await ask({
        ctstickiness: 'told',
        'x-ctedge-owner': 'mallory',
        'x-ctedge-control': 'guess',
        'x-forwarded-for': '203.0.113.9',
        'x-real-ip': '203.0.113.9',
        connection: 'keep-alive, x-hop',
        'x-hop': 'one hop only',
    });
    const { headers } = body;
    assert.equal(headers['x-forwarded-for'], '127.0.0.1', 'an address that no configured proxy gave is not believed');
    assert.equal(headers['x-real-ip'], '127.0.0.1');
    assert.equal(headers['x-forwarded-proto'], 'http');
    assert.equal(headers['x-forwarded-host'], new URL(balancer.http).host);
    assert.ok(headers['x-request-id']);
    assert.equal(headers['x-hop'], undefined, 'a header for one hop goes no further');
    const internal = Object.keys(headers).filter(name => name.startsWith('x-ctedge-'));
    assert.deepEqual(internal, [], 'internal headers from outside are removed');
});

test('no spelling of a control path reaches a node from outside, even with the right token', async () => {
    await withEdge({}, async edge => {
        const headers = { 'x-ctedge-control': controlToken(edge.secret()) };
        const { address } = await edge.admin.node('node-1');
        const path = '/ct-control/suspend';
        const spellings = ['', '/', '/x/..', '/.'].map(prefix => prefix + path);
        for (const spelling of [...spellings, '/%63t-control/suspend', '/CT-control/suspend', `http://edge${path}`]) {
            const text = await exchange(Number(new URL(edge.http).port), '127.0.0.1', [
                `POST ${spelling} HTTP/1.1\r\nhost: edge\r\nx-ctedge-control: ${headers['x-ctedge-control']}\r\n`,
                'content-length: 0\r\nconnection: close\r\n\r\n',
            ].join(''));
            assert.match(text, /^HTTP\/1\.1 40[0-9]/, spelling);
        }
        const health = async () => (await byNodeHttp(`http://${address}/ct-health/`)).body.status;
        assert.equal(await health(), 'ready');
        const direct = await byNodeHttp(`http://${address}${path}`, { method: 'POST', headers });
        assert.equal(direct.status, 200, 'the token itself is right');
        assert.equal(await health(), 'suspended');
    });
});

test('a browser over HTTPS gets a cookie that stays on HTTPS', async () => {
    await withEdge({}, async edge => {
        const { Agent, request } = await import('node:https');
        const { readFileSync } = await import('node:fs');
        const agent = new Agent({ ca: readFileSync(edge.certificateFile()) });
        /** @type {string[]} */
        const cookies = await new Promise((resolve, reject) => {
            request(`${edge.https}/api/meta`, { agent }, response => {
                response.resume();
                resolve(response.headers['set-cookie'] ?? []);
            }).on('error', reject).end();
        });
        agent.destroy();
        const cookie = cookies.find(text => text.startsWith('ctstickiness='));
        assert.match(cookie ?? '', /; ?Secure/i);
        assert.match(cookie ?? '', /; ?HttpOnly/i);
        assert.doesNotMatch(cookie ?? '', /Domain/i);
    });
});

test('a session whose key a client names has that key as its room id, and never a used one', async () => {
    await withEdge({}, async edge => {
        await meeting(async meet => {
            const token = await meet('ada', edge.http).login();
            const create = (/** @type {Record<string, string>} */ headers) => {
                const all = { 'x-oct-jwt': token, ...headers };
                return byNodeHttp(`${edge.http}/api/session/create`, { method: 'POST', headers: all });
            };
            assert.equal((await create({ ctstickiness: 'my-own-key' })).body.roomId, 'my-own-key');
            const again = await create({ ctstickiness: 'my-own-key' });
            assert.equal(again.status, 200, again.text);
            assert.notEqual(again.body.roomId, 'my-own-key');
            const explained = await edge.admin.explain(again.body.roomId);
            assert.ok(explained.node);
            const byCookie = await create({ cookie: 'ctstickiness=from-a-cookie' });
            assert.notEqual(byCookie.body.roomId, 'from-a-cookie', 'a cookie names the last session, not the next');
        });
    });
});
