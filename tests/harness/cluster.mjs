//! Nodes and balancers as processes of their own, as on several machines: nobody starts one again, and nobody tells the
//! store that one has died.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { eventually } from './deadline.mjs';
import { Balancer, filesBelow, freePort, temporaryDirectory } from './edge.mjs';
import { Metrics } from './metrics.mjs';
import { BINARY, Child } from './process.mjs';

/** How long a start may take: a debug build on a machine that compiles beside it. */
const START_MS = 60_000;

/** A `ctedge node`. */
export class Node {
    /**
     * @param {string} id
     * @param {number} port
     * @param {string} file its settings
     * @param {string} [address] where balancers and other nodes reach it
     */
    constructor(id, port, file, address = `127.0.0.1:${port}`) {
        this.id = id;
        this.port = port;
        this.file = file;
        this.address = address;
        /** The node itself, whatever leads there. */
        this.url = `http://127.0.0.1:${port}`;
        /** @type {Child} */
        this.child = this.start();
    }

    /** Starts the process, also again: as another incarnation of the same node. */
    start() {
        this.child = new Child(`ctedge node ${this.id}`, BINARY, ['node', '--config', this.file, '--id', this.id]);
        return this.child;
    }

    /** @returns {Promise<any>} what the node says of itself */
    async health() {
        const response = await fetch(`${this.url}/ct-health/`, { signal: AbortSignal.timeout(5_000) });
        return response.json();
    }

    async metrics() {
        return Metrics.of(`${this.url}/metrics`);
    }

    /**
     * Waits until the node says that its store is in a state.
     *
     * @param {string} state
     */
    async storeIs(state, ms = 20_000) {
        return eventually(`store ${state} of ${this.id}`, async () => (await this.health()).store === state, ms);
    }
}

/** Nodes that share a store, and balancers before them. */
export class Cluster {
    /**
     * @typedef {object} ClusterOptions
     * @property {number} [nodes]
     * @property {string | ((number: number) => string)} [settings] TOML for the nodes, or for each of them by its number
     *     from 1: sections of their own; `[store]` among them, if it is not to be SQLite
     * @property {import('./tcp-proxy.mjs').Wire} [wire] by which balancers and other nodes reach the first node; it is led there
     *
     * @param {ClusterOptions} [options]
     */
    static async start({ nodes = 3, settings = '', wire } = {}) {
        const ports = [];
        for (let number = 0; number < nodes; number += 1) ports.push(await freePort());
        const cluster = new Cluster(ports, settings, wire);
        try {
            await eventually('ready nodes', async () => {
                for (const node of cluster.nodes) {
                    assert.ok(!node.child.ended, node.child.output);
                    assert.equal((await node.health()).status, 'ready');
                }
                return true;
            }, START_MS);
        } catch (error) {
            await cluster.destroy(true);
            throw error;
        }
        return cluster;
    }

    /**
     * @param {number[]} ports
     * @param {string | ((number: number) => string)} settings
     * @param {import('./tcp-proxy.mjs').Wire} [wire]
     */
    constructor(ports, settings, wire) {
        this.data = temporaryDirectory('cluster');
        this.secret = randomBytes(32).toString('hex');
        writeFileSync(path.join(this.data, 'cluster.secret'), this.secret, { mode: 0o600 });
        if (wire) wire.target = new URL(`http://127.0.0.1:${ports[0]}`);
        const addresses = ports.map((port, index) => wire && index === 0 ? new URL(wire.url).host : `127.0.0.1:${port}`);
        const listed = ports.map((port, index) => {
            return `\n[[nodes]]\nid = "node-${index + 1}"\naddress = "${addresses[index]}"\nlisten = "127.0.0.1:${port}"\n`;
        });
        this.nodes = ports.map((port, index) => {
            const id = `node-${index + 1}`;
            const file = path.join(this.data, `${id}.toml`);
            const own = typeof settings === 'string' ? settings : settings(index + 1);
            writeFileSync(file, `data = "${this.data}"\n\n${own}\n${listed.join('')}`);
            return new Node(id, port, file, addresses[index]);
        });
        /** @type {Balancer[]} */
        this.balancers = [];
    }

    /**
     * Starts one more balancer.
     *
     * @param {{ nodes?: Node[], settings?: string, top?: string }} [options] which nodes it knows: all, unless its list is old
     * @returns {Promise<Balancer>}
     */
    async balancer({ nodes = this.nodes, settings, top } = {}) {
        const known = nodes.map(({ id, address }) => ({ id, address }));
        const balancer = await Balancer.start({ nodes: known, settings, top, secret: this.secret });
        this.balancers.push(balancer);
        return balancer;
    }

    /** @param {string} id @returns {Node} */
    node(id) {
        const found = this.nodes.find(node => node.id === id);
        assert.ok(found, id);
        return found;
    }

    /**
     * The node that a balancer knows a key at.
     *
     * @param {Balancer} balancer
     * @param {string} key
     */
    async ownerOf(balancer, key) {
        return this.node((await balancer.admin.explain(key)).node);
    }

    /**
     * The host of a session on that node, which takes sessions like every other.
     *
     * @param {Node} node
     * @param {Balancer} balancer
     * @param {(name: string, url: string) => import('./person.mjs').Person} meet
     */
    async hostAt(node, balancer, meet) {
        for (let number = 0; number < 20; number += 1) {
            const host = await meet(`host ${number}`, balancer.http).host();
            if (await this.ownerOf(balancer, host.roomId) === node) return host;
            await host.leave();
        }
        throw new Error(`20 sessions, and none on ${node.id}`);
    }

    /** What all nodes counted together. @param {string} name @param {Record<string, string>} [labels] */
    async sum(name, labels) {
        let sum = 0;
        for (const node of this.nodes) if (!node.child.ended) sum += (await node.metrics()).sum(name, labels);
        return sum;
    }

    async destroy(failed = false) {
        try {
            for (const balancer of this.balancers) await balancer.destroy(failed);
        } finally {
            for (const node of this.nodes) {
                // A node that stands still cannot stop.
                node.child.kill('SIGCONT');
                node.child.kill('SIGTERM');
            }
            for (const node of this.nodes) {
                await Promise.race([node.child.exit, new Promise(resolve => setTimeout(resolve, 12_000).unref())]);
                node.child.killGroup('SIGKILL');
            }
            if (failed) this.show();
            rmSync(this.data, { recursive: true, force: true });
        }
    }

    show() {
        for (const node of this.nodes) console.error(`--- ${node.id}\n${node.child.output.slice(-6_000)}`);
        const logs = filesBelow(this.data).filter(file => file.endsWith('sessions.log'));
        for (const file of logs) console.error(`--- ${file}\n${readFileSync(file, 'utf8').slice(-6_000)}`);
    }
}

/**
 * Runs `use` against a cluster, and stops it whatever happens. The logs of a failed test are shown.
 *
 * @param {ClusterOptions} options
 * @param {(cluster: Cluster) => Promise<void>} use
 */
export async function withCluster(options, use) {
    const cluster = await Cluster.start(options);
    try {
        await use(cluster);
    } catch (error) {
        await cluster.destroy(true).catch(() => {});
        throw error;
    }
    await cluster.destroy();
}
