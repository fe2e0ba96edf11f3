//! Debian's nginx as somebody else's balancer before nodes of ours.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { eventually } from './deadline.mjs';
import { freePort, temporaryDirectory } from './edge.mjs';
import { Child } from './process.mjs';

/** What a location has that passes WebSockets on. */
export const PASSES_UPGRADES = `
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;`;

/** What an upstream has that goes by the key, wherever a client carries it. */
export const HASHES_KEYS = 'hash $key consistent;';

/** A running nginx. */
export class Nginx {
    /**
     * @typedef {object} NginxOptions
     * @property {string[]} nodes addresses
     * @property {string} [upstream] lines of the upstream beside its servers; nodes take turns without any
     * @property {string} [location] lines of the location
     * @property {string} [host] what the nodes see as the host; what the client asked for without it
     * @property {{ certificate: string, key: string }} [tls] files
     *
     * @param {NginxOptions} options
     */
    static async start(options) {
        const nginx = new Nginx(await freePort(), options);
        try {
            await eventually('nginx', async () => {
                assert.ok(!nginx.child.ended, nginx.child.output);
                const socket = connect(Number(new URL(nginx.url).port), '127.0.0.1');
                await once(socket, 'connect').finally(() => socket.destroy());
                return true;
            });
        } catch (error) {
            await nginx.destroy();
            throw error;
        }
        return nginx;
    }

    /**
     * @param {number} port
     * @param {NginxOptions} options
     */
    constructor(port, options) {
        this.folder = temporaryDirectory('nginx');
        this.url = options.tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`;
        const file = path.join(this.folder, 'nginx.conf');
        writeFileSync(file, configuration(this.folder, port, options));
        this.child = new Child('nginx', 'nginx', ['-c', file, '-p', this.folder, '-e', 'stderr']);
    }

    async destroy() {
        try {
            if (!this.child.ended) await this.child.stop();
        } finally {
            this.child.killGroup('SIGKILL');
            rmSync(this.folder, { recursive: true, force: true });
        }
    }
}

/**
 * @param {NginxOptions} options
 * @param {(nginx: Nginx) => Promise<void>} use
 */
export async function withNginx(options, use) {
    const nginx = await Nginx.start(options);
    try {
        await use(nginx);
    } finally {
        await nginx.destroy();
    }
}

/**
 * @param {string} folder
 * @param {number} port
 * @param {NginxOptions} options
 */
function configuration(folder, port, { nodes, upstream = '', host = '$http_host', location = '', tls }) {
    const kinds = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
    return `daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
${process.getuid?.() === 0 ? 'user root;' : ''}
events { worker_connections 256; }
http {
    access_log off;
    ${kinds.map(kind => `${kind}_temp_path ${folder}/${kind};`).join(' ')}
    map $http_upgrade $connection_upgrade { default upgrade; '' close; }
    map $http_ctstickiness $key { default $http_ctstickiness; '' $cookie_ctstickiness; }
    upstream nodes {
        ${upstream}
        ${nodes.map(address => `server ${address};`).join(' ')}
    }
    server {
        listen 127.0.0.1:${port}${tls ? ' ssl' : ''};
        ${tls ? `ssl_certificate ${tls.certificate}; ssl_certificate_key ${tls.key};` : ''}
        location / {
            proxy_pass http://nodes;
            proxy_set_header Host ${host};${location}
        }
    }
}
`;
}
