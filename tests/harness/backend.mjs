//! A tiny server that is not ours: it answers any request with its own name and what it was asked, and echoes on
//! WebSockets. It stands for real CodeTogether containers behind a lone balancer.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

export class Backend {
    /**
     * @param {string} id
     * @param {number} [port]
     * @returns {Promise<Backend>}
     */
    static async start(id, port = 0) {
        const backend = new Backend(id);
        await backend.listen(port);
        return backend;
    }

    /** @param {string} id */
    constructor(id) {
        this.id = id;
        this.port = 0;
        /** What `/ct-health/` answers. */
        this.healthy = true;
        /** @type {import('node:http').IncomingMessage[]} */
        this.requests = [];
        /** Its end of the WebSockets, by key. @type {Map<string | undefined, import('ws').WebSocket>} */
        this.tunnels = new Map();
        /** @type {Set<import('node:net').Socket>} */
        this.sockets = new Set();
        /** @type {import('node:http').Server | undefined} */
        this.server = undefined;
    }

    get address() {
        return `127.0.0.1:${this.port}`;
    }

    /** What the balancer's file says of it. */
    get node() {
        return { id: this.id, address: this.address };
    }

    /** @param {number} port */
    async listen(port) {
        const server = createServer((request, response) => this.answer(request, response));
        const webSockets = new WebSocketServer({ server });
        webSockets.on('connection', (socket, request) => {
            socket.on('error', () => {});
            this.tunnels.set(request.headers.ctstickiness?.toString(), socket);
            socket.send(JSON.stringify({ node: this.id, key: request.headers.ctstickiness }));
            socket.on('message', (data, binary) => socket.send(data, { binary }));
        });
        server.on('connection', socket => {
            this.sockets.add(socket);
            socket.on('close', () => this.sockets.delete(socket));
        });
        server.listen(port, '127.0.0.1');
        await once(server, 'listening');
        this.port = /** @type {import('node:net').AddressInfo} */ (server.address()).port;
        this.server = server;
    }

    /**
     * @param {import('node:http').IncomingMessage} request
     * @param {import('node:http').ServerResponse} response
     */
    async answer(request, response) {
        if (request.url?.startsWith('/ct-health/')) {
            response.writeHead(this.healthy ? 200 : 500).end('OK');
            return;
        }
        this.requests.push(request);
        let body = '';
        for await (const part of request) body += part;
        response.writeHead(200, { 'content-type': 'application/json' });
        response.end(JSON.stringify({ node: this.id, path: request.url, headers: request.headers, bytes: body.length }));
    }

    /** Goes away as a killed process does: every connection is reset, and the port refuses. */
    die() {
        this.server?.close();
        for (const socket of this.sockets) socket.resetAndDestroy();
        this.server = undefined;
    }

    /** Comes back on the port it had. */
    async comeBack() {
        await this.listen(this.port);
    }
}

/**
 * @param {number} count
 * @returns {Promise<Backend[]>}
 */
export function startBackends(count) {
    return Promise.all(Array.from({ length: count }, (_, index) => Backend.start(`backend-${index + 1}`)));
}
