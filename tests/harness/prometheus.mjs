//! Debian's Prometheus, reading an edge with the configuration that the edge comes with.

import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { eventually } from './deadline.mjs';
import { freePort, temporaryDirectory } from './edge.mjs';
import { Child } from './process.mjs';

const DEPLOY = path.resolve(import.meta.dirname, '../../deploy');

/** What an operator puts beside Prometheus and Grafana. */
export const FILES = {
    config: path.join(DEPLOY, 'prometheus/prometheus.yml'),
    alerts: path.join(DEPLOY, 'prometheus/alerts.yml'),
    dashboard: path.join(DEPLOY, 'grafana/ctedge.json'),
};

/** A running Prometheus. */
export class Prometheus {
    /**
     * Starts one that reads `edge` every second.
     *
     * @param {import('./edge.mjs').Edge} edge
     */
    static async start(edge) {
        const prometheus = new Prometheus(await freePort());
        try {
            await prometheus.begin(edge);
        } catch (error) {
            await prometheus.destroy();
            throw error;
        }
        return prometheus;
    }

    /** @param {number} port */
    constructor(port) {
        this.folder = temporaryDirectory('prometheus');
        this.url = `http://127.0.0.1:${port}`;
        /** @type {Child | undefined} */
        this.child = undefined;
    }

    /** @param {import('./edge.mjs').Edge} edge */
    async begin(edge) {
        const { nodes } = await edge.admin.status();
        const config = path.join(this.folder, 'prometheus.yml');
        writeFileSync(config, adapted(edge, nodes.map((/** @type {any} */ node) => node.address)));
        const child = new Child('prometheus', 'prometheus', [
            `--config.file=${config}`, `--storage.tsdb.path=${this.folder}/data`,
            `--web.listen-address=${new URL(this.url).host}`, '--log.level=warn',
        ]);
        this.child = child;
        await eventually('Prometheus', async () => {
            assert.ok(!child.ended, child.output);
            return (await fetch(`${this.url}/-/ready`)).ok;
        }, 30_000);
    }

    /**
     * @param {string} route below /api/v1
     * @param {Record<string, string>} [parameters]
     */
    async ask(route, parameters = {}) {
        const query = new URLSearchParams(parameters);
        const response = await fetch(`${this.url}/api/v1/${route}?${query}`, { signal: AbortSignal.timeout(10_000) });
        const { status, data, error } = /** @type {any} */ (await response.json());
        assert.equal(status, 'success', `${route} ${query}: ${error}`);
        return data;
    }

    /**
     * The values of a query, by their labels as text: `{node="node-1"}`, `{}`.
     *
     * @param {string} query
     * @returns {Promise<Map<string, number>>}
     */
    async query(query) {
        const { result } = await this.ask('query', { query });
        return new Map(result.map((/** @type {any} */ { metric, value }) => [labels(metric), Number(value[1])]));
    }

    async destroy() {
        try {
            if (this.child && !this.child.ended) await this.child.stop();
        } finally {
            this.child?.killGroup('SIGKILL');
            rmSync(this.folder, { recursive: true, force: true });
        }
    }
}

/** @param {Record<string, string>} metric */
function labels(metric) {
    const kept = Object.entries(metric).filter(([name]) => !['__name__', 'instance', 'job'].includes(name));
    return `{${kept.map(([name, value]) => `${name}="${value}"`).join(',')}}`;
}

/**
 * The configuration as an operator adapts it: with the addresses of their edge. The certificate of a test's edge is its
 * own, and a test is impatient.
 *
 * @param {import('./edge.mjs').Edge} edge
 * @param {string[]} nodes
 */
function adapted(edge, nodes) {
    const host = (/** @type {string} */ url) => new URL(url).host;
    const replaced = [
        ['scrape_interval: 15s', 'scrape_interval: 1s'],
        ['evaluation_interval: 15s', 'evaluation_interval: 1s'],
        ['- alerts.yml', `- ${FILES.alerts}`],
        ['scheme: https\n', `scheme: https\n    tls_config: { ca_file: "${edge.certificateFile()}", server_name: localhost }\n`],
        ['[edge.example.com]', `["${host(edge.https)}"]`],
        ['[127.0.0.1:1090]', `["${host(edge.admin.url)}"]`],
        ['[127.0.0.1:3001, 127.0.0.1:3002, 127.0.0.1:3003]', JSON.stringify(nodes)],
    ];
    return replaced.reduce((text, [from, to]) => {
        assert.ok(text.includes(from), `${FILES.config} has no ${from}`);
        return text.replace(from, to);
    }, readFileSync(FILES.config, 'utf8'));
}
