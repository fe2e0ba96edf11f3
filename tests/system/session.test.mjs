//! One session, from the outside: who gets in, who does not, and how it ends.

import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Edge, withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';
import { Child } from '../harness/process.mjs';
import { byNodeHttp } from '../harness/raw.mjs';
import { workTogether } from '../harness/story.mjs';
import { claimOf, sign, tampered, tokenKey, unsigned } from '../harness/tokens.mjs';

/** @type {Edge} */
let edge;

before(async () => {
    edge = await Edge.start({ args: ['--expose-node'] });
});

after(async () => {
    await edge.stop();
});

test('people work together over HTTP', async () => {
    await workTogether(edge.http);
});

test('people work together over HTTPS, trusting the certificate that the edge made', async () => {
    const story = path.resolve(import.meta.dirname, '../harness/story.mjs');
    const child = new Child('story over HTTPS', process.execPath, [story, edge.https], {
        env: { NODE_EXTRA_CA_CERTS: edge.certificateFile() },
    });
    await child.line(/^they worked together$/, 60_000);
    assert.equal((await child.exit).code, 0);
});

test('people work together below a path prefix, which no node sees', async () => {
    await withEdge({ config: 'server_url = "https://edge.example.org/tools/edge"\n' }, async prefixed => {
        await workTogether(`${prefixed.http}/tools/edge`);
        assert.equal((await byNodeHttp(`${prefixed.http}/api/meta`)).status, 404, 'nothing is served outside of it');
    });
});

test('a host may refuse a guest, who is told so', async () => {
    await meeting(async meet => {
        const host = await meet('host', edge.http).host({ consent: user => user.name !== 'stranger' });
        await assert.rejects(meet('stranger', edge.http).ask(host.roomId), { code: 'JoinRejected' });
        const friend = await meet('friend', edge.http).join(host.roomId);
        await host.say('welcome');
        await friend.hears('welcome');
    });
});

test('a room that nobody hosts is not found', async () => {
    await meeting(async meet => {
        const guest = meet('guest', edge.http);
        await assert.rejects(guest.ask('NoSuchRoomNoSuchRoomNoSu'), { code: 'RoomNotFound' });
    });
});

test('a room is not found any more once its host has left', async () => {
    await meeting(async meet => {
        const host = await meet('host', edge.http).host();
        const guest = await meet('guest', edge.http).join(host.roomId);
        await host.leave();
        await guest.told('room/closed');
        await assert.rejects(meet('late', edge.http).ask(host.roomId), { code: 'RoomNotFound' });
    });
});

test('a login token that is forged, expired or missing creates no session', async () => {
    await meeting(async meet => {
        const login = await meet('mallory', edge.http).login();
        const create = (/** @type {string | undefined} */ token) => {
            const headers = /** @type {Record<string, string>} */ (token ? { 'x-oct-jwt': token } : {});
            return byNodeHttp(`${edge.http}/api/session/create`, { method: 'POST', headers });
        };
        const key = tokenKey(edge.secret());
        const claim = claimOf(login);
        assert.equal((await create(login)).status, 200, 'the token itself is good');
        assert.equal((await create(sign(claim, key))).status, 200, 'and so is one that the cluster key signs');
        const past = Math.floor(Date.now() / 1000) - 3600;
        const bad = {
            'another claim under the same signature': tampered(login, { name: 'ada' }),
            'no signature': unsigned(login),
            'the signature of another key': sign(claim, 'k'.repeat(32)),
            'the secret itself as the key': sign(claim, edge.secret()),
            'expired an hour ago': sign({ ...claim, iat: past - 60, exp: past }, key),
            'no token at all': undefined,
            'no token of any kind': 'x.y.z',
        };
        for (const [what, token] of Object.entries(bad)) assert.equal((await create(token)).status, 403, what);
    });
});

test('a room token that is forged or expired gets no place in the session', async () => {
    await meeting(async meet => {
        const host = await meet('host', edge.http).host();
        const guest = await meet('guest', edge.http).join(host.roomId);
        const key = tokenKey(edge.secret());
        const claim = claimOf(guest.roomToken);
        const past = Math.floor(Date.now() / 1000) - 3600;
        const bad = [
            tampered(guest.roomToken, { host: true }),
            unsigned(guest.roomToken),
            sign(claim, 'k'.repeat(32)),
            sign({ ...claim, iat: past - 60, exp: past }, key),
        ];
        for (const [index, token] of bad.entries()) {
            const mallory = meet(`mallory ${index}`, edge.http);
            mallory.connect(token, host.peer).catch(() => {});
            await refused(mallory);
        }
        await host.say('are we alone?');
        await guest.hears('are we alone?');
        assert.ok(!host.heard.all.some(message => message.params?.[0]?.name?.startsWith?.('mallory')));
    });
});

/** @param {import('../harness/person.mjs').Person} person */
async function refused(person) {
    await person.heard.first('refusal', message => message.kind === 'socket');
    assert.ok(!person.heard.all.some(message => message.method === 'peer/info'), `${person.name} was let in`);
    person.close();
}

test('a request to a peer that is not there fails at once, instead of waiting', async () => {
    await meeting(async meet => {
        const host = await meet('host', edge.http).host();
        const guest = await meet('guest', edge.http).join(host.roomId);
        const other = await meet('other', edge.http).join(host.roomId);
        await guest.told('room/joined', ([peer]) => peer.id === other.peer.id);
        // The host answers files; a guest has no handler, and so leaves the request open until it goes.
        const asked = /** @type {any} */ (guest.connection).fs.readFile(other.peer.id, 'demo/a.txt');
        const outcome = assert.rejects(asked);
        await guest.say('sent after the request');
        await other.hears('sent after the request');
        await other.leave();
        await outcome;
    });
});

test('the login page is one a person can use', async () => {
    const initial = await byNodeHttp(`${edge.http}/api/login/initial`, { method: 'POST' });
    assert.equal(initial.status, 200);
    const page = new URL(initial.body.auth.loginPageUrl, edge.http);
    const answer = await byNodeHttp(page.href, { headers: { accept: 'text/html' } });
    assert.equal(answer.status, 200);
    assert.match(answer.headers['content-type'], /text\/html/);
    assert.match(answer.text, /<form|<input/);
    assert.doesNotMatch(answer.text, /(src|href)="https?:/, 'nothing is loaded from elsewhere');
});
