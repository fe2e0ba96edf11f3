//! Debian's `docker-registry` behind a password, and tags pushed to it by its own API.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { execFileSync, spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
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

/** A running registry that admits one user. */
export class DockerRegistry {
    /**
     * @param {string} user
     * @param {string} password
     */
    static async start(user, password) {
        const registry = new DockerRegistry(await freePort(), user, password);
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
     */
    constructor(port, user, password) {
        this.folder = temporaryDirectory('registry');
        this.url = `http://127.0.0.1:${port}`;
        this.authorization = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
        const users = path.join(this.folder, 'htpasswd');
        writeFileSync(users, execFileSync('htpasswd', ['-Bbn', user, password]));
        const config = path.join(this.folder, 'config.yml');
        writeFileSync(config, `version: 0.1
log: { level: warn, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: ${path.join(this.folder, 'data')} } }
http: { addr: 127.0.0.1:${port} }
auth: { htpasswd: { realm: "the registry, of tests", path: ${users} } }
`);
        this.child = new Child('docker-registry', 'docker-registry', ['serve', config], { cwd: this.folder });
    }

    /**
     * @param {string} method
     * @param {string} target
     * @param {string} type
     * @param {string} [body]
     */
    async call(method, target, type, body) {
        const headers = { authorization: this.authorization, 'content-type': type };
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
        const begun = await this.call('POST', `/v2/${repository}/blobs/uploads/`, 'application/octet-stream');
        const upload = new URL(begun.headers.get('location') ?? '', this.url);
        upload.searchParams.set('digest', digest);
        await this.call('PUT', upload.href, 'application/octet-stream', image);
        const manifest = {
            schemaVersion: 2,
            mediaType: 'application/vnd.oci.image.manifest.v1+json',
            config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: image.length },
            layers: [],
        };
        for (const tag of tags) {
            await this.call('PUT', `/v2/${repository}/manifests/${tag}`, manifest.mediaType, JSON.stringify(manifest));
        }
    }

    async stop() {
        this.child.killGroup('SIGKILL');
        await this.child.exit;
        rmSync(this.folder, { recursive: true, force: true });
    }
}
