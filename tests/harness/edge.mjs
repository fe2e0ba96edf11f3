//! A whole edge as an operator starts it: `ctedge up` on free ports with a data directory of its own.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { eventually, within } from './deadline.mjs';
import { Metrics } from './metrics.mjs';
import { BINARY, Child, ctedge } from './process.mjs';

/** How long a start may take: a debug build on a machine that compiles beside it. */
const START_MS = 60_000;

/** Counts what must never happen. */
const TWO_OWNERS = 'ctedge_balancer_two_owners_total';

/** What a balancer logs when it does. */
const TWO_OWNERS_LINE = 'two nodes answer as the owner of one key';

/** @param {string} name */
export function temporaryDirectory(name) {
    return mkdtempSync(path.join(os.tmpdir(), `ctedge-test-${name}-`));
}

/**
 * Every file below a directory.
 *
 * @param {string} directory
 * @returns {string[]}
 */
export function filesBelow(directory) {
    return readdirSync(directory).flatMap(name => {
        const file = path.join(directory, name);
        const stat = statSync(file);
        if (stat.isDirectory()) return filesBelow(file);
        return stat.isFile() ? [file] : [];
    });
}

/** The admin API of a balancer. */
export class Admin {
    /** @param {string} url */
    constructor(url) {
        this.url = url;
        /** What `--admin` takes. */
        this.address = new URL(url).host;
    }

    /**
     * @param {string} route
     * @param {string} [method]
     */
    async call(route, method = 'GET') {
        const response = await fetch(this.url + route, { method, signal: AbortSignal.timeout(10_000) });
        const text = await response.text();
        return { status: response.status, text, body: text.startsWith('{') ? JSON.parse(text) : undefined };
    }

    async status() {
        return (await this.call('/status')).body;
    }

    /**
     * One node as `/status` has it.
     *
     * @param {string} id
     * @returns {Promise<any>}
     */
    async node(id) {
        return (await this.status()).nodes.find((/** @type {any} */ node) => node.id === id);
    }

    /**
     * Waits until the balancer sees a node in a state.
     *
     * @param {string} id
     * @param {string} state
     * @param {number} [ms]
     */
    async nodeIs(id, state, ms = 30_000) {
        return eventually(`${state} ${id}`, async () => {
            const node = await this.node(id);
            return node?.state === state ? node : undefined;
        }, ms);
    }

    /**
     * Waits until a node is ready again, as another process.
     *
     * @param {string} id
     * @param {number} pid of the one before
     */
    async anotherProcess(id, pid) {
        return eventually(`another process of ${id}`, async () => {
            // What the balancer heard last may still be of the one before.
            const node = await this.node(id);
            return node?.state === 'ready' && node.pid !== pid;
        }, 60_000);
    }

    /**
     * Waits until so many nodes are ready.
     *
     * @param {number} count
     */
    async nodesReady(count) {
        return eventually(`${count} ready nodes`, async () => {
            const { nodes } = await this.status();
            return nodes.filter((/** @type {any} */ node) => node.state === 'ready').length === count;
        }, START_MS);
    }

    /** @param {string} key */
    async explain(key) {
        return (await this.call(`/explain?key=${encodeURIComponent(key)}`)).body;
    }

    /** What the balancer counts. */
    async metrics() {
        return Metrics.of(`${this.url}/metrics`);
    }

    /**
     * What a node counts.
     *
     * @param {string} id
     */
    async nodeMetrics(id) {
        return Metrics.of(`http://${(await this.node(id)).address}/metrics`);
    }

    /** No two nodes ever answered as the owner of one key. Holds at any time; a balancer that is gone says nothing. */
    async assertOneOwner() {
        let metrics;
        try {
            metrics = await this.metrics();
        } catch {
            return;
        }
        assert.ok(metrics.has(TWO_OWNERS), TWO_OWNERS);
        assert.equal(metrics.sum(TWO_OWNERS), 0, 'two nodes answered as the owner of one key');
    }
}

/** A running `ctedge up`. */
export class Edge {
    /**
     * @typedef {object} EdgeOptions
     * @property {string} [data] a data directory to use again; it is then left in place
     * @property {number} [nodes]
     * @property {string} [http] the public address, for clients that come back to an edge that is started again
     * @property {string} [config] the text of a settings file
     * @property {string[]} [args]
     * @property {Record<string, string>} [env] variables beside those of the test
     * @property {string} [binary] the path that the program is called by, if it is not where it was built
     *
     * @param {EdgeOptions} [options]
     */
    static async start(options = {}) {
        const edge = new Edge(options);
        try {
            await edge.ready();
        } catch (error) {
            await edge.destroy();
            throw error;
        }
        return edge;
    }

    /** @param {EdgeOptions} options */
    constructor(options) {
        this.data = options.data ?? temporaryDirectory('edge');
        this.keepsData = options.data !== undefined;
        const args = ['up', '--data', this.data, '--http', options.http ?? '127.0.0.1:0', '--https', '127.0.0.1:0'];
        args.push('--admin', '127.0.0.1:0', '--node-base-port', '0');
        // An option counts more than the file, and so would hide a count that a test changes in the file.
        if (!options.config?.includes('[up]')) args.push('--nodes', String(options.nodes ?? 3));
        if (options.config !== undefined) {
            const file = path.join(this.data, 'test.toml');
            writeFileSync(file, options.config);
            args.push('--config', file);
        }
        this.child = new Child('ctedge up', options.binary ?? BINARY, [...args, ...(options.args ?? [])], { env: options.env });
        this.http = this.https = '';
        this.admin = new Admin('http://127.0.0.1:0');
    }

    async ready() {
        await this.child.line(/^ready$/, START_MS);
        this.http = this.address('http');
        this.https = this.address('https');
        this.admin = new Admin(this.address('admin'));
        const { nodes } = await this.admin.status();
        await this.admin.nodesReady(nodes.length);
    }

    /**
     * The address that `up` printed behind a word.
     *
     * @param {string} word
     */
    address(word) {
        const line = this.child.lines.all.find(text => new RegExp(`^\\s+${word}\\s+https?://`).test(text));
        assert.ok(line, `no line "${word}" in:\n${this.child.output}`);
        return line.trim().split(/\s+/)[1].replace(/\/$/, '').replace('0.0.0.0', '127.0.0.1');
    }

    /** The certificate that `up` made, in PEM. */
    certificateFile() {
        const file = filesBelow(this.data).find(name => {
            return /\.(pem|crt)$/.test(name) && readFileSync(name, 'utf8').includes('BEGIN CERTIFICATE');
        });
        assert.ok(file, `no certificate below ${this.data}`);
        return file;
    }

    /** The cluster secret that `up` made. */
    secret() {
        const file = filesBelow(this.data).find(name => path.basename(name).includes('secret'));
        assert.ok(file, `no cluster secret below ${this.data}`);
        return readFileSync(file, 'utf8').trim();
    }

    /**
     * The text of every log below the data directory, with what `up` itself said, by name.
     *
     * @returns {Map<string, string>}
     */
    logs() {
        const logs = new Map([['output of ctedge up', this.child.output]]);
        for (const file of filesBelow(this.data)) {
            if (file.endsWith('.log')) logs.set(file, readFileSync(file, 'utf8'));
        }
        return logs;
    }

    /**
     * Runs a command of an operator against this edge, and gives what it prints.
     *
     * @param {string[]} args
     * @param {number} [ms]
     */
    async operate(args, ms = 60_000) {
        const { code, output } = await ctedge([...args, '--admin', this.admin.address], ms);
        assert.equal(code, 0, output);
        return output;
    }

    /**
     * What `ctedge list` says of a process: a node by its id, or `balancer`.
     *
     * @param {string} name
     */
    async listed(name) {
        const { processes } = JSON.parse(await this.operate(['list', '--json']));
        return processes.find((/** @type {any} */ process) => process.uid === name);
    }

    /**
     * Kills a node's process without warning and gives its pid.
     *
     * @param {string} id
     * @returns {Promise<number>}
     */
    async killNode(id) {
        return (await this.aimAt(id))();
    }

    /**
     * Finds the process of a node, to be killed by a call, without a pause.
     *
     * @param {string} id
     * @returns {Promise<() => number>} the call gives its pid
     */
    async aimAt(id) {
        // Its supervisor knows; what the balancer heard last may be of the process before.
        const { pid } = await this.listed(id);
        assert.ok(pid > 1, `node ${id} has no pid`);
        return () => {
            process.kill(pid, 'SIGKILL');
            return pid;
        };
    }

    /** Kills every process at once, as a power failure would; what they have written stays. */
    async crash() {
        const { balancer, nodes } = await this.admin.status();
        // The supervisor first: it would start the others again.
        for (const pid of [this.child.pid, balancer.pid, ...nodes.map((/** @type {any} */ node) => node.pid)]) {
            process.kill(pid, 'SIGKILL');
        }
        await this.child.exit;
    }

    /**
     * Raises the number of nodes, by the settings file that the edge was started with.
     *
     * @param {number} count
     * @param {string} [settings] the other sections of that file
     */
    addNodes(count, settings = '') {
        writeFileSync(path.join(this.data, 'test.toml'), `[up]\nnodes = ${count}\n\n${settings}`);
        this.child.kill('SIGHUP');
    }

    /** Stops everything; the supervisor must end with 0, and no session may have had two owners. */
    async stop() {
        await this.assertOneOwner();
        const code = this.child.ended ? this.child.ended.code : await this.child.stop();
        assert.equal(code, 0, `ctedge up ended with ${code}:\n${this.child.output}`);
        this.forget();
    }

    /** No session had two owners, as far as any balancer of this edge could see, those included that were killed. */
    async assertOneOwner() {
        if (!this.child.ended) await this.admin.assertOneOwner();
        for (const [name, text] of this.logs()) assert.ok(!text.includes(TWO_OWNERS_LINE), name);
    }

    /** The end of a test: stops the edge, and shows its logs if the test has failed. */
    async destroy(failed = true) {
        try {
            if (!this.child.ended) await this.child.stop('SIGTERM', 20_000);
        } catch (error) {
            console.error(String(error));
        } finally {
            this.child.killGroup('SIGKILL');
        }
        if (failed) for (const [name, text] of this.logs()) console.error(`--- ${name}\n${text.slice(-6_000)}`);
        this.forget();
    }

    forget() {
        if (!this.keepsData) rmSync(this.data, { recursive: true, force: true });
    }
}

/**
 * Runs `use` against an edge, and stops it whatever happens. The edge must stop with 0; the logs of a failed test are
 * shown.
 *
 * @param {EdgeOptions} options
 * @param {(edge: Edge) => Promise<void>} use
 */
export async function withEdge(options, use) {
    const edge = await Edge.start(options);
    try {
        await use(edge);
    } catch (error) {
        await edge.destroy(true);
        throw error;
    }
    await edge.stop();
}

/**
 * A TCP port that is free, below the range of outgoing connections so that none of those takes it meanwhile.
 *
 * @returns {Promise<number>}
 */
export async function freePort() {
    const { createServer } = await import('node:net');
    for (let attempt = 0; attempt < 50; attempt += 1) {
        const port = 12_000 + Math.floor(Math.random() * 7_000);
        const server = createServer();
        const free = await within('answer to a bind', new Promise(resolve => {
            server.once('error', () => resolve(false));
            server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
        }));
        if (free) return port;
    }
    throw new Error('no free port in 50 attempts');
}

/** A lone `ctedge balancer` in front of whatever its settings file names. */
export class Balancer {
    /**
     * @typedef {object} BalancerOptions
     * @property {{ id: string, address: string, weight?: number }[]} nodes
     * @property {string} [settings] TOML: sections of their own, other than `[balancer]` itself
     * @property {string} [top] TOML: settings of no section
     * @property {string} [secret] the cluster's, if the nodes have one
     * @property {string} [host] where clients reach it
     *
     * @param {BalancerOptions} options
     */
    static async start({ nodes, settings = '', top = '', secret = randomBytes(32).toString('hex'), host = '127.0.0.1' }) {
        const balancer = new Balancer(`${host}:${await freePort()}`, await freePort(), settings, top);
        writeFileSync(path.join(balancer.data, 'cluster.secret'), secret, { mode: 0o600 });
        balancer.write(nodes);
        balancer.launch();
        try {
            const gone = balancer.child.exit.then(() => {
                throw new Error(`the balancer ended at its start:\n${balancer.child.output}`);
            });
            await Promise.race([gone, eventually('admin API of the balancer', () => balancer.admin.status(), START_MS)]);
            gone.catch(() => {});
            if (nodes.length > 0) await balancer.admin.nodesReady(nodes.length);
        } catch (error) {
            await balancer.destroy(true);
            throw error;
        }
        return balancer;
    }

    /**
     * @param {string} http
     * @param {number} adminPort
     * @param {string} settings
     * @param {string} top
     */
    constructor(http, adminPort, settings, top) {
        this.data = temporaryDirectory('balancer');
        this.file = path.join(this.data, 'balancer.toml');
        this.http = `http://${http}`;
        this.admin = new Admin(`http://127.0.0.1:${adminPort}`);
        this.settings = settings;
        this.top = top;
        /** @type {any} */
        this.child = undefined;
    }

    /** @param {{ id: string, address: string }[]} nodes */
    write(nodes) {
        writeFileSync(this.file, balancerSettings(this, nodes));
    }

    launch() {
        this.child = new Child('ctedge balancer', BINARY, ['balancer', '--config', this.file]);
    }

    /** Makes the balancer read its file again, as an operator does. */
    reload() {
        this.child?.kill('SIGHUP');
    }

    async destroy(failed = false) {
        const child = this.child;
        if (child) {
            try {
                if (!child.ended) {
                    await this.admin.assertOneOwner();
                    assert.equal(await child.stop('SIGTERM', 20_000), 0);
                }
            } finally {
                child.killGroup('SIGKILL');
                if (failed) console.error(child.output.slice(-6_000));
            }
        }
        rmSync(this.data, { recursive: true, force: true });
    }
}

/**
 * @param {Balancer} balancer
 * @param {{ id: string, address: string }[]} nodes
 */
function balancerSettings(balancer, nodes) {
    const host = (/** @type {string} */ url) => new URL(url).host;
    return `data = "${balancer.data}"
${balancer.top}
[balancer]
http = "${host(balancer.http)}"
https = ""
admin = "${host(balancer.admin.url)}"
expose_node = true

${balancer.settings}
${nodes.map(({ id, address }) => `\n[[nodes]]\nid = "${id}"\naddress = "${address}"\n`).join('')}`;
}

/**
 * @param {Balancer} balancer
 * @param {(balancer: Balancer) => Promise<void>} use
 */
export async function withBalancer(balancer, use) {
    try {
        await use(balancer);
    } catch (error) {
        await balancer.destroy(true).catch(() => {});
        throw error;
    }
    await balancer.destroy();
}

export { ctedge };
