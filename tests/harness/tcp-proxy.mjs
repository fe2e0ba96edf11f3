//! A wire that a test can cut or make slow: a TCP proxy between a client and the balancer.

import { createServer, connect } from 'node:net';
import { once } from 'node:events';
import { Transform } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

/** A slow wire sends so much in one piece. */
const SLICE_BYTES = 4096;

export class Wire {
    /**
     * @param {string} url where the wire leads
     * @returns {Promise<Wire>}
     */
    static async to(url) {
        const wire = new Wire(new URL(url));
        wire.server.listen(0, '127.0.0.1');
        await once(wire.server, 'listening');
        const { port } = /** @type {import('node:net').AddressInfo} */ (wire.server.address());
        wire.url = `${new URL(url).protocol}//127.0.0.1:${port}`;
        return wire;
    }

    /** @param {URL} target */
    constructor(target) {
        this.url = '';
        /** Where connections that are made from here on lead. */
        this.target = target;
        this.isCut = false;
        /** How many bytes a second the near side may send over each connection. */
        this.uplinkBytesPerSecond = Infinity;
        /** How many connections were ever made through the wire. */
        this.connections = 0;
        /** @type {Set<import('node:net').Socket>} */
        this.sockets = new Set();
        this.server = createServer(near => {
            if (this.isCut) {
                near.destroy();
                return;
            }
            this.connections += 1;
            const far = connect(Number(this.target.port), this.target.hostname);
            for (const [socket, other] of [[near, far], [far, near]]) {
                this.sockets.add(socket);
                socket.on('error', () => {});
                socket.on('close', () => {
                    this.sockets.delete(socket);
                    other.destroy();
                });
            }
            near.pipe(this.uplink()).pipe(far).pipe(near);
        });
    }

    /** What the near side sends, at the pace of the wire at that time. */
    uplink() {
        const wire = this;
        return new Transform({
            highWaterMark: SLICE_BYTES,
            async transform(chunk, _, done) {
                for (let at = 0; at < chunk.length; at += SLICE_BYTES) {
                    const slice = chunk.subarray(at, at + SLICE_BYTES);
                    if (wire.uplinkBytesPerSecond < Infinity) await sleep(1000 * slice.length / wire.uplinkBytesPerSecond);
                    this.push(slice);
                }
                done();
            },
        });
    }

    /** Cuts what is open, without a goodbye to either side, and refuses what comes. */
    cut() {
        this.isCut = true;
        for (const socket of this.sockets) socket.resetAndDestroy();
    }

    mend() {
        this.isCut = false;
    }

    close() {
        this.server.close();
        for (const socket of this.sockets) socket.destroy();
    }
}
