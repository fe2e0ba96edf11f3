//! Which versions there are: the tags of a repository in a registry.

import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import path from 'node:path';
import { after, test } from 'node:test';
import { within } from '../harness/deadline.mjs';
import { temporaryDirectory, withEdge } from '../harness/edge.mjs';
import { BINARY, Child, ctedge } from '../harness/process.mjs';
import { DockerRegistry, TokenServer, withoutRegistry } from '../harness/registry.mjs';

const scratch = temporaryDirectory('versions');
after(() => rmSync(scratch, { recursive: true, force: true }));

const PASSWORD = 'a pass:word of tests';
const password = path.join(scratch, 'password');
writeFileSync(password, `${PASSWORD}\n`);
const wrong = path.join(scratch, 'wrong');
writeFileSync(wrong, 'another');

const OPERATOR = { CT_DASHBOARD_USER: 'ada', CT_DASHBOARD_PASSWORD: 'lovelace' };

/** The version of the binary under test. */
async function running() {
    const { output } = await ctedge(['--version']);
    return output.trim().split(' ')[1];
}

/**
 * @param {string[]} args
 * @param {Record<string, string>} [env]
 */
async function versions(args, env) {
    const nobody = args.includes('--admin') ? [] : ['--admin', '127.0.0.1:1'];
    const child = new Child('ctedge versions', BINARY, ['versions', ...args, ...nobody], { env });
    const { code } = await within('end of ctedge versions', child.exit, 40_000);
    return { code, output: child.output };
}

test('ctedge versions lists the tags behind a password, the newest first, and marks the one that runs', { skip: withoutRegistry() }, async () => {
    const registry = await DockerRegistry.start('operator', PASSWORD);
    try {
        const own = await running();
        // More than is asked for at once; this registry gives all the same.
        const releases = Array.from({ length: 120 }, (_, index) => `9.${Math.floor(index / 10)}.${index % 10}`);
        const tags = [own, 'latest', '2025.01.1', '10.0.0-rc.1', '10.0.0', 'v25.3', 'nightly', 'sha256-0123.sig', ...releases];
        await registry.push('example/edge', tags);
        const asked = ['--registry', registry.url, '--repository', 'example/edge'];
        const login = ['--username', 'operator', '--password-file', password];

        const { code, output } = await versions([...asked, ...login]);
        assert.equal(code, 0, output);
        const told = /^marked is the version of this program: .*127\.0\.0\.1:1.*$/m;
        assert.match(output, told);
        const lines = output.replace(told, '').trimEnd().split('\n').filter(line => line !== '');
        assert.equal(lines.length, tags.length);
        assert.deepEqual(lines.slice(0, 6), ['  2025.01.1', '  v25.3', '  10.0.0', '  10.0.0-rc.1', '  9.11.9', '  9.11.8']);
        assert.deepEqual(lines.slice(-4), [`* ${own}`, '  nightly', '  latest', '  sha256-0123.sig']);

        const json = lines.map(line => ({ tag: line.slice(2), runs: line.startsWith('*') }));
        const printed = (await versions([...asked, ...login, '--json'])).output;
        assert.deepEqual(JSON.parse(printed.replace(told, '')), json);

        const config = path.join(scratch, 'registry.toml');
        writeFileSync(config, `[portal]\nregistry = "${registry.url}"\nrepository = "example/edge"\n`
            + `registry_user = "operator"\nregistry_password_file = "${password}"\n`);
        assert.equal((await versions(['--config', config])).output, output);

        await withEdge({ nodes: 1, config: readFileSync(config, 'utf8'), env: OPERATOR }, async edge => {
            const headers = { authorization: `Basic ${Buffer.from('ada:lovelace').toString('base64')}` };
            const { versions: shown } = await (await fetch(`${edge.http}/dashboard/api/state`, { headers })).json();
            assert.equal(shown.problem, null);
            assert.deepEqual(shown.published, json);
            const page = await (await fetch(`${edge.http}/dashboard`, { headers })).text();
            assert.ok(page.includes('<td>10.0.0-rc.1</td>'), page);
            const { code, output: marked } = await versions(['--config', config, '--admin', edge.admin.address]);
            assert.deepEqual([code, marked.split('\n').filter(line => !line.startsWith('  '))], [0, [`* ${own}`]]);
        });

        // What runs is what the edge says, whatever program asks.
        const status = { balancer: { version: '10.0.0' }, nodes: [{ version: '10.0.0-rc.1' }, { version: null }] };
        await withServer(() => ({ body: status }), async url => {
            const { output: marked } = await versions([...asked, ...login, '--admin', new URL(url).host]);
            assert.deepEqual(marked.split('\n').filter(line => !line.startsWith('  ')), ['* 10.0.0', '* 10.0.0-rc.1']);
        });

        const denied = await versions([...asked, '--username', 'operator', '--password-file', wrong]);
        assert.equal(denied.code, 1);
        assert.match(denied.output, /does not admit the user "operator": look at the user and the password file/);
        assert.match((await versions(asked)).output, /does not admit whoever gives no name/);
        const none = await versions(['--registry', registry.url, '--repository', 'example/none', ...login]);
        assert.equal(none.code, 1);
        assert.match(none.output, /has no repository example\/none/);
    } finally {
        await registry.stop();
    }
});

test('ctedge versions fetches a token of a registry that takes nothing else', { skip: withoutRegistry() }, async () => {
    const tokens = await TokenServer.start('operator', PASSWORD);
    const registry = await DockerRegistry.start('operator', PASSWORD, tokens).catch(error => {
        tokens.stop();
        throw error;
    });
    try {
        await registry.push('example/edge', ['1.0.0', '1.1.0', 'latest']);
        const args = ['--registry', registry.url, '--repository', 'example/edge', '--username', 'operator', '--password-file'];
        assert.deepEqual(await versions([...args, password]), { code: 0, output: '  1.1.0\n  1.0.0\n  latest' });
        assert.deepEqual(tokens.asked, ['/token?service=registry&scope=repository%3Aexample%2Fedge%3Apull']);
        const denied = await versions([...args, wrong]);
        assert.equal(denied.code, 1);
        assert.match(denied.output, /does not admit the user "operator": look at the user and the password file/);
    } finally {
        await registry.stop();
        tokens.stop();
    }
});

test('ctedge versions reads every page of a registry that gives a hundred tags at once', async () => {
    const tags = Array.from({ length: 250 }, (_, index) => `1.${index}`).sort();
    let pages = 0;
    const answer = (/** @type {any} */ _, /** @type {URL} */ url) => {
        const [count, last] = [Number(url.searchParams.get('n')), url.searchParams.get('last')];
        const rest = tags.filter(tag => last === null || tag > last);
        const page = rest.slice(0, Math.min(count, 100));
        pages += 1;
        const link = `<${url.pathname}?last=${page.at(-1)}&n=${count}>; rel="next"`;
        return { headers: rest.length > page.length ? { link } : {}, body: { name: 'a', tags: page } };
    };
    await withServer(answer, async url => {
        const { code, output } = await versions(['--registry', url, '--repository', 'a']);
        assert.equal(code, 0, output);
        assert.deepEqual(output.split('\n').map(line => line.trim()), Array.from({ length: 250 }, (_, index) => `1.${249 - index}`));
        assert.equal(pages, 3);
    });
});

/**
 * A registry of few words.
 *
 * @param {(request: import('node:http').IncomingMessage, url: URL) => { status?: number, headers?: Record<string, string>, body?: any }} answer
 * @param {(url: string) => Promise<void>} use
 */
async function withServer(answer, use) {
    const server = createServer((request, response) => {
        const { status = 200, headers = {}, body = {} } = answer(request, new URL(request.url ?? '', 'http://x'));
        response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
    });
    await new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(undefined)));
    try {
        await use(`http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`);
    } finally {
        server.closeAllConnections();
        server.close();
    }
}

test('ctedge versions fetches a token where the registry wants one, and another when that has run out', async () => {
    /** @type {string[]} */
    const asked = [];
    let base = '';
    let tokens = 0;
    const answer = (/** @type {import('node:http').IncomingMessage} */ request, /** @type {URL} */ url) => {
        asked.push(`${url.pathname}${url.search}`);
        if (url.pathname === '/token') {
            const expected = `Basic ${Buffer.from(`operator:${PASSWORD}`).toString('base64')}`;
            if (request.headers.authorization !== expected) return { status: 401 };
            tokens += 1;
            return { body: tokens === 1 ? { token: 'token-1' } : { access_token: `token-${tokens}` } };
        }
        const isLast = url.searchParams.has('last');
        if (request.headers.authorization !== `Bearer token-${isLast ? 2 : 1}`) {
            const challenge = `Bearer realm="${base}/token",service="tests & more",scope="repository:a/b:pull"`;
            return { status: 401, headers: { 'www-authenticate': challenge } };
        }
        if (isLast) return { body: { name: 'a/b', tags: ['1.1.0'] } };
        return { headers: { link: '</v2/a/b/tags/list?n=100&last=1.0.0>; rel="next"' }, body: { name: 'a/b', tags: ['1.0.0'] } };
    };
    await withServer(answer, async url => {
        base = url;
        const args = ['--registry', url, '--repository', 'a/b', '--username', 'operator', '--password-file'];
        const { code, output } = await versions([...args, password]);
        assert.deepEqual([code, output], [0, '  1.1.0\n  1.0.0']);
        assert.deepEqual(asked.filter(target => target.startsWith('/token')),
            Array(2).fill('/token?service=tests%20%26%20more&scope=repository%3Aa%2Fb%3Apull'));
        const denied = await versions([...args, wrong]);
        assert.equal(denied.code, 1);
        assert.match(denied.output, /does not admit the user "operator"/);
        assert.ok(!denied.output.includes('another') && !output.includes('token'), denied.output);
    });
});

test('ctedge versions says what is wrong with an answer, and follows no page to another host', async () => {
    /** @type {[any, RegExp][]} */
    const answers = [
        [{ body: 'no list' }, /answers like no OCI registry/],
        [{ status: 500 }, /answers like no OCI registry: status 500/],
        [{ status: 401 }, /asks for a login in no known way/],
        [{ headers: { link: '<http://127.0.0.2:1/v2/a/tags/list?last=x>; rel="next"' }, body: { tags: ['1.0.0'] } },
            /its next page is at http:\/\/127\.0\.0\.2:1/],
    ];
    for (const [answer, expected] of answers) {
        await withServer(() => answer, async url => {
            const { code, output } = await versions(['--registry', url, '--repository', 'a']);
            assert.equal(code, 1);
            assert.match(output, expected);
        });
    }
    // A list without an end is no list: what is missing may be the newest.
    let pages = 0;
    const endless = () => {
        pages += 1;
        return { headers: { link: `</v2/a/tags/list?last=${pages}>; rel="next"` }, body: { tags: [`1.0.${pages}`] } };
    };
    await withServer(endless, async url => {
        const { code, output } = await versions(['--registry', url, '--repository', 'a']);
        assert.equal(code, 1);
        assert.match(output, /answers like no OCI registry: its list has more than 200 pages/);
        assert.equal(pages, 200);
    });
    await withServer(() => ({ body: { name: 'a', tags: null } }), async url => {
        assert.deepEqual(await versions(['--registry', url, '--repository', 'a']), { code: 0, output: 'the repository has no tags' });
    });
    const away = await versions(['--registry', 'http://127.0.0.1:1', '--repository', 'a']);
    assert.equal(away.code, 1);
    assert.match(away.output, /http:\/\/127\.0\.0\.1:1 cannot be asked: .*refused/);
});

test('ctedge versions names a password file that cannot be read, and its setting', async () => {
    const lost = path.join(scratch, 'lost');
    const config = path.join(scratch, 'lost.toml');
    writeFileSync(config, '[portal]\nregistry = "http://127.0.0.1:1"\nrepository = "a"\nregistry_user = "operator"\n'
        + `registry_password_file = "${lost}"\n`);
    const asked = ['--registry', 'http://127.0.0.1:1', '--repository', 'a', '--username', 'operator', '--password-file', lost];
    for (const args of [['--config', config], asked]) {
        const { code, output } = await versions(args);
        assert.equal(code, 1);
        assert.match(output, /cannot read the password file .*\/lost \(portal\.registry_password_file\): No such file.*; name a file that/);
    }
});

test('ctedge versions trusts the certificates that the machine trusts, and no others', async () => {
    await withEdge({ nodes: 1 }, async edge => {
        const certificate = edge.certificateFile();
        const key = certificate.replace(/\.\w+$/, '.key');
        const server = createTlsServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (request, response) => {
            if (request.url?.startsWith('/v2/b/')) {
                response.writeHead(401, { 'www-authenticate': 'Bearer realm="http://127.0.0.1:1/token"' }).end();
                return;
            }
            response.writeHead(200, { 'content-type': 'application/json' }).end('{"name":"a","tags":["1.0.0"]}');
        });
        await new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(undefined)));
        try {
            const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
            const args = ['--registry', `https://localhost:${port}`, '--repository', 'a'];
            assert.deepEqual(await versions(args, { SSL_CERT_FILE: certificate }), { code: 0, output: '  1.0.0' });
            const login = ['--username', 'operator', '--password-file', password];
            const open = await versions([...args.slice(0, 3), 'b', ...login], { SSL_CERT_FILE: certificate });
            assert.equal(open.code, 1);
            assert.match(open.output, /its tokens come from http:\/\/127\.0\.0\.1:1\/token, without encryption/);
            const stranger = await versions(args);
            assert.equal(stranger.code, 1);
            assert.match(stranger.output, /https:\/\/localhost:\d+ cannot be asked: .*UnknownIssuer/);
        } finally {
            server.closeAllConnections();
            server.close();
        }
    });
});

test('ctedge versions wants to know of which registry, and names a wrong option', async () => {
    const none = await versions([]);
    assert.equal(none.code, 1);
    assert.match(none.output, /which registry\? Name it with --registry and --repository/);
    const half = await versions(['--registry', 'http://127.0.0.1:1']);
    assert.match(half.output, /--registry: portal\.registry: needs portal\.repository beside it/);
    const odd = await versions(['--registry', 'ghcr.io', '--repository', 'a']);
    assert.match(odd.output, /--registry: portal\.registry: "ghcr\.io" is not the URL of a registry/);
});
