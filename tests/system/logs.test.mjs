//! What the logs say, and what they must never say.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';
import { byNodeHttp } from '../harness/raw.mjs';

/** nginx's format `combined`. */
const COMBINED = /^(\S+) - (\S+) \[(\d{2}\/[A-Z][a-z]{2}\/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4})\] "(\S+) (\S+) (HTTP\/\d(?:\.\d)?)" (\d{3}) (\d+) "([^"]*)" "([^"]*)"$/;

/** @param {import('../harness/edge.mjs').Edge} edge */
function accessLines(edge) {
    const log = [...edge.logs()].find(([name]) => name.endsWith('access.log'));
    return (log?.[1] ?? '').split('\n').filter(line => line !== '');
}

test('every request is one line of the access log in the combined format', async () => {
    await withEdge({}, async edge => {
        const headers = { 'user-agent': 'a "quoted" agent', referer: 'https://example.org/page' };
        await byNodeHttp(`${edge.http}/clients/vscode/codetogether-onpremises-1.vsix?x=1`, { headers });
        const lines = await eventually('access line', () => {
            const all = accessLines(edge);
            return all.some(line => line.includes('/clients/')) && all;
        });
        for (const line of lines) assert.match(line, COMBINED);
        const line = lines.filter(text => text.includes('GET /clients/vscode/codetogether-onpremises-'));
        assert.equal(line.length, 1);
        const [, address, , , method, path, , status, , referer] = COMBINED.exec(line[0]) ?? [];
        assert.deepEqual([address, method, path], ['127.0.0.1', 'GET', '/clients/vscode/codetogether-onpremises-1.vsix?x=1']);
        assert.match(status, /^[1-5]\d\d$/);
        assert.equal(referer, 'https://example.org/page');
    });
});

test('no token is in any log, whatever the level', async () => {
    await withEdge({ config: '[log]\nlevel = "debug"\n' }, async edge => {
        /** @type {Map<string, string>} */
        const secrets = new Map();
        const seen = async (/** @type {string} */ url, /** @type {any} */ init) => {
            const response = await fetch(url, init);
            const body = await response.clone().json().catch(() => ({}));
            for (const name of ['pollToken', 'loginToken', 'roomToken']) {
                // What follows the key in a poll token, and the signature of a JWT, are what admits the bearer.
                if (body[name]) secrets.set(`${name} ${secrets.size}`, body[name].split('.').at(-1));
            }
            return response;
        };
        await meeting(async meet => {
            const host = await meet('host', edge.http).observed(seen).host();
            const guest = await meet('guest', edge.http).observed(seen).join(host.roomId);
            await host.upgraded();
            await guest.upgraded();
            for (const person of [host, guest]) secrets.set(`sid of ${person.name}`, person.socket.io.engine.id.split('.').at(-1));
            await host.say('a secret word between peers');
            await guest.hears('a secret word between peers');
            // A token in a query, as the browser's WebSocket transport would send it, and one that is refused.
            const query = `x-oct-jwt=${guest.roomToken}&token=${guest.loginToken}`;
            await byNodeHttp(`${edge.http}/websocket?${query}`);
            await byNodeHttp(`${edge.http}/api/session/poll/${host.roomId}.${'A'.repeat(24)}`, { method: 'POST' });
            await byNodeHttp(`${edge.http}/api/meta`, { headers: { referer: `https://example.org/?token=${guest.loginToken}` } });
        });
        secrets.set('refused poll token', 'A'.repeat(24));
        secrets.set('cluster secret', edge.secret());
        secrets.set('words between peers', 'a secret word');
        assert.ok(secrets.size >= 9, `${secrets.size} secrets were noted`);
        await edge.child.stop();
        for (const [log, text] of edge.logs()) {
            for (const [name, secret] of secrets) assert.ok(!text.includes(secret), `${name} stands in ${log}`);
        }
        assert.ok(accessLines(edge).length > 10, 'the logs were written');
    });
});
