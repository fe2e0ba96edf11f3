//! Debian's `docker-registry` behind a password, and tags pushed to it by its own API.

import assert from 'node:assert/strict';
import { X509Certificate, createHash, createPrivateKey, sign } from 'node:crypto';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { eventually } from './deadline.mjs';
import { freePort, temporaryDirectory } from './edge.mjs';
import { Child } from './process.mjs';

/** What is missing for a registry, or false. */
export function withoutRegistry() {
    const missing = ['docker-registry', 'htpasswd'].filter(program => spawnSync('which', [program]).status !== 0);
    if (missing.length === 0) return false;
    if (process.env.CI === 'true') throw new Error(`missing: ${missing.join(', ')}`);
    return `missing: ${missing.join(', ')} (apt-get install docker-registry apache2-utils)`;
}

/** A running registry that admits one user: by the password itself, or by tokens that another server gives for it. */
export class DockerRegistry {
    /**
     * @param {string} user
     * @param {string} password
     * @param {TokenServer} [tokens]
     */
    static async start(user, password, tokens) {
        const registry = new DockerRegistry(await freePort(), user, password, tokens);
        try {
            await eventually('answer of the registry', async () => (await fetch(`${registry.url}/v2/`)).status === 401);
        } catch (error) {
            const output = registry.child.output;
            await registry.stop();
            throw new Error(`${error}\n${output}`);
        }
        return registry;
    }

    /**
     * @param {number} port
     * @param {string} user
     * @param {string} password
     * @param {TokenServer} [tokens]
     */
    constructor(port, user, password, tokens) {
        this.folder = temporaryDirectory('registry');
        this.url = `http://127.0.0.1:${port}`;
        const basic = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
        this.authorization = (/** @type {string} */ repository) =>
            tokens ? `Bearer ${tokens.token(user, repository, ['pull', 'push'])}` : basic;
        const users = path.join(this.folder, 'htpasswd');
        writeFileSync(users, execFileSync('htpasswd', ['-Bbn', user, password]));
        const auth = tokens ? tokens.settings() : `{ htpasswd: { realm: "the registry, of tests", path: ${users} } }`;
        const config = path.join(this.folder, 'config.yml');
        writeFileSync(config, `version: 0.1
log: { level: warn, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: ${path.join(this.folder, 'data')} } }
http: { addr: 127.0.0.1:${port} }
auth: ${auth}
`);
        this.child = new Child('docker-registry', 'docker-registry', ['serve', config], { cwd: this.folder });
    }

    /**
     * @param {string} repository
     * @param {string} method
     * @param {string} target
     * @param {string} type
     * @param {string} [body]
     */
    async call(repository, method, target, type, body) {
        const headers = { authorization: this.authorization(repository), 'content-type': type };
        const url = new URL(target, this.url);
        const response = await fetch(url, { method, headers, body, signal: AbortSignal.timeout(10_000) });
        assert.ok(response.ok, `${method} ${target}: ${response.status} ${await response.text()}`);
        return response;
    }

    /**
     * Pushes one small image under all these tags.
     *
     * @param {string} repository
     * @param {string[]} tags
     */
    async push(repository, tags) {
        const image = '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}';
        const digest = `sha256:${createHash('sha256').update(image).digest('hex')}`;
        const begun = await this.call(repository, 'POST', `/v2/${repository}/blobs/uploads/`, 'application/octet-stream');
        const upload = new URL(begun.headers.get('location') ?? '', this.url);
        upload.searchParams.set('digest', digest);
        await this.call(repository, 'PUT', upload.href, 'application/octet-stream', image);
        const manifest = {
            schemaVersion: 2,
            mediaType: 'application/vnd.oci.image.manifest.v1+json',
            config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: image.length },
            layers: [],
        };
        for (const tag of tags) {
            await this.call(repository, 'PUT', `/v2/${repository}/manifests/${tag}`, manifest.mediaType, JSON.stringify(manifest));
        }
    }

    async stop() {
        this.child.killGroup('SIGKILL');
        await this.child.exit;
        rmSync(this.folder, { recursive: true, force: true });
    }
}

/** Gives tokens for a registry to whoever has the password (Distribution, "Token Authentication Specification"). */
export class TokenServer {
    /**
     * @param {string} user
     * @param {string} password
     */
    static async start(user, password) {
        const server = new TokenServer(user, password);
        await new Promise(resolve => server.server.listen(0, '127.0.0.1', () => resolve(undefined)));
        const { port } = /** @type {import('node:net').AddressInfo} */ (server.server.address());
        server.url = `http://127.0.0.1:${port}/token`;
        return server;
    }

    /**
     * @param {string} user
     * @param {string} password
     */
    constructor(user, password) {
        this.folder = temporaryDirectory('tokens');
        this.url = '';
        /** What it was asked for. @type {string[]} */
        this.asked = [];
        const key = path.join(this.folder, 'key.pem');
        this.certificate = path.join(this.folder, 'certificate.pem');
        execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=tokens of tests',
            '-keyout', key, '-out', this.certificate], { stdio: 'ignore' });
        this.key = createPrivateKey(readFileSync(key));
        const basic = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
        this.server = createServer((request, response) => {
            const url = new URL(request.url ?? '', this.url);
            this.asked.push(`${url.pathname}${url.search}`);
            if (request.headers.authorization !== basic) {
                response.writeHead(401).end('{}');
                return;
            }
            const [, repository, actions] = (url.searchParams.get('scope') ?? '').split(':');
            const token = this.token(user, repository, actions.split(',').filter(action => action === 'pull'));
            response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ token, expires_in: 300 }));
        });
    }

    /** What the registry has to know of it. */
    settings() {
        return `{ token: { realm: "${this.url}", service: registry, issuer: tests, rootcertbundle: ${this.certificate} } }`;
    }

    /**
     * @param {string} user
     * @param {string} repository
     * @param {string[]} actions
     */
    token(user, repository, actions) {
        const certificate = new X509Certificate(readFileSync(this.certificate)).raw.toString('base64');
        const now = Math.floor(Date.now() / 1000);
        const claims = {
            iss: 'tests', sub: user, aud: 'registry', iat: now, nbf: now - 60, exp: now + 300, jti: String(Math.random()),
            access: [{ type: 'repository', name: repository, actions }],
        };
        const part = (/** @type {any} */ value) => Buffer.from(JSON.stringify(value)).toString('base64url');
        const text = `${part({ typ: 'JWT', alg: 'RS256', x5c: [certificate] })}.${part(claims)}`;
        return `${text}.${sign('sha256', Buffer.from(text), this.key).toString('base64url')}`;
    }

    stop() {
        this.server.closeAllConnections();
        this.server.close();
        rmSync(this.folder, { recursive: true, force: true });
    }
}
