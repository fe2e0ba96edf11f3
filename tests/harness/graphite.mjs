//! StatsD and Graphite as operators of the original have them: the npm server `statsd`, and behind it Debian's
//! `carbon-cache`, whose files are read with `whisper-fetch`.

import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { eventually, within } from './deadline.mjs';
import { filesBelow, freePort, temporaryDirectory } from './edge.mjs';
import { Child } from './process.mjs';
import { run } from './programs.mjs';

const STATSD = path.resolve(import.meta.dirname, '../node_modules/statsd/stats.js');

/** How long a start may take. */
const START_MS = 30_000;

/** A StatsD server and the Graphite that it writes to. */
export class Graphite {
    static async start() {
        const graphite = new Graphite(await freePort(), await freePort(), await freePort());
        try {
            await graphite.beginCarbon();
            await graphite.beginStatsd();
        } catch (error) {
            await graphite.destroy();
            throw error;
        }
        return graphite;
    }

    /**
     * @param {number} statsdPort
     * @param {number} carbonPort
     * @param {number} queryPort
     */
    constructor(statsdPort, carbonPort, queryPort) {
        this.folder = temporaryDirectory('graphite');
        this.whisper = path.join(this.folder, 'whisper');
        /** Where StatsD listens, for datagrams and for connections. */
        this.port = statsdPort;
        this.carbonPort = carbonPort;
        this.queryPort = queryPort;
        /** @type {Child | undefined} */
        this.carbon = undefined;
        /** @type {Child | undefined} */
        this.statsd = undefined;
    }

    async beginCarbon() {
        const config = path.join(this.folder, 'carbon.conf');
        writeFileSync(config, `[cache]
USER =
STORAGE_DIR = ${this.folder}
LOCAL_DATA_DIR = ${this.whisper}
CONF_DIR = ${this.folder}
LOG_DIR = ${this.folder}
PID_DIR = ${this.folder}
WHITELISTS_DIR = ${this.folder}
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = ${this.carbonPort}
PICKLE_RECEIVER_PORT = 0
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = ${this.queryPort}
MAX_UPDATES_PER_SECOND = inf
MAX_CREATES_PER_MINUTE = inf
ENABLE_TAGS = False
TAG_HASH_FILENAMES = False
`);
        writeFileSync(path.join(this.folder, 'storage-schemas.conf'), '[all]\npattern = .*\nretentions = 1s:1h\n');
        this.carbon = new Child('carbon-cache', 'carbon-cache', [`--config=${config}`, '--nodaemon', '--debug', 'start']);
        await listens(this.carbon, this.carbonPort);
    }

    /** Starts the StatsD server, also again. */
    async beginStatsd() {
        const config = path.join(this.folder, 'statsd.js');
        const server = (/** @type {string} */ way) => ({ server: `./servers/${way}`, address: '127.0.0.1', port: this.port });
        // The server evaluates the file; JSON is an expression.
        writeFileSync(config, `(${JSON.stringify({
            servers: [server('udp'), server('tcp')],
            mgmt_address: '127.0.0.1',
            mgmt_port: await freePort(),
            graphiteHost: '127.0.0.1',
            graphitePort: this.carbonPort,
            backends: ['./backends/graphite'],
            graphite: { legacyNamespace: false },
            flushInterval: 1000,
        })})`);
        this.statsd = new Child('statsd', process.execPath, [STATSD, config]);
        await listens(this.statsd, this.port);
    }

    /** Ends the StatsD server without a word, as a failing machine does. */
    async killStatsd() {
        this.statsd?.kill('SIGKILL');
        await within('end of statsd', /** @type {Child} */ (this.statsd).exit);
    }

    /**
     * Waits until Graphite has a value for a gauge.
     *
     * @param {string} name below `stats.gauges`, with its tags as Graphite writes them: `a.b;tag=value`
     * @param {number} value
     */
    async has(name, value) {
        let last = 'none';
        try {
            await eventually(`${value} for ${name}`, () => {
                const found = this.last(name);
                last = String(found);
                return found === value;
            }, 20_000);
        } catch (error) {
            const files = filesBelow(this.whisper).map(file => path.relative(this.whisper, file)).join('\n');
            throw new Error(`${/** @type {Error} */ (error).message}; the last is ${last}. There are:\n${files}\n${this.statsd?.output}`);
        }
    }

    /**
     * The last value of a gauge.
     *
     * @param {string} name
     * @returns {number | undefined}
     */
    last(name) {
        const [plain] = name.split(';');
        const whole = `stats.gauges.${name}`;
        // What has tags lies below hashes, with dots written out.
        const ending = plain === name ? `/${whole.replaceAll('.', '/')}` : `/${whole.replaceAll('.', '_DOT_')}`;
        const file = filesBelow(this.whisper).find(found => found.endsWith(`${ending}.wsp`));
        assert.ok(file, `Graphite has no ${name}`);
        const from = Math.floor(Date.now() / 1000) - 5;
        const { code, output, said } = run('whisper-fetch', ['--json', `--from=${from}`, file]);
        assert.equal(code, 0, said);
        return JSON.parse(output).values.filter((/** @type {number | null} */ value) => value !== null).at(-1);
    }

    async destroy() {
        this.statsd?.killGroup('SIGKILL');
        this.carbon?.killGroup('SIGKILL');
        for (const child of [this.statsd, this.carbon]) if (child) await within(`end of ${child.name}`, child.exit);
        rmSync(this.folder, { recursive: true, force: true });
    }
}

/**
 * Waits until a process takes connections.
 *
 * @param {Child} child
 * @param {number} port
 */
async function listens(child, port) {
    await eventually(`port of ${child.name}`, () => {
        assert.ok(!child.ended, child.output);
        return new Promise(resolve => {
            const socket = connect(port, '127.0.0.1', () => resolve(true));
            socket.on('error', () => resolve(false)).on('connect', () => socket.destroy());
        });
    }, START_MS);
}
