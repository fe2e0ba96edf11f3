//! A PostgreSQL of a test's own: a cluster in a temporary directory, from the packages of the machine, on a free port of
//! 127.0.0.1.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { eventually } from './deadline.mjs';
import { freePort } from './edge.mjs';
import { Child } from './process.mjs';

/** How long starting and stopping may take. */
const PATIENCE_MS = 30_000;

/**
 * What keeps a test from having a PostgreSQL, as the `skip` of a test wants it. With CI=true nothing is a reason to
 * skip: the start fails then, and says the same.
 *
 * @returns {string | false}
 */
export function withoutPostgres() {
    return process.env.CI !== 'true' && missing();
}

/** @returns {string | false} */
function missing() {
    if (!programs()) return 'PostgreSQL is not installed (apt-get install postgresql)';
    return isRoot() && !unprivileged() ? 'there is no unprivileged user who could run PostgreSQL' : false;
}

/** A running server. */
export class Postgres {
    /** Starts a server with an empty database. */
    static async start() {
        const problem = missing();
        if (problem) throw new Error(problem);
        const postgres = new Postgres(await freePort());
        try {
            await postgres.run('initdb', [
                '--auth=trust', '--username=ctedge', '--encoding=UTF8', '--no-locale', '--no-sync', '--pgdata', postgres.data,
            ]);
            await postgres.begin();
        } catch (error) {
            await postgres.destroy();
            throw error;
        }
        return postgres;
    }

    /** @param {number} port */
    constructor(port) {
        this.port = port;
        this.programs = /** @type {string} */ (programs());
        this.user = isRoot() ? unprivileged() : undefined;
        this.folder = mkdtempSync(path.join(os.tmpdir(), 'ctedge-test-postgres-'));
        this.data = path.join(this.folder, 'data');
        // The server's user has to get there, and refuses a data directory that is not its own.
        chmodSync(this.folder, 0o755);
        if (this.user) chownSync(this.folder, this.user.uid, this.user.gid);
        /** @type {Child | undefined} */
        this.server = undefined;
    }

    /** The URL of the database, over the server's own port or that of something before it. */
    url(port = this.port) {
        return `postgres://ctedge@127.0.0.1:${port}/postgres`;
    }

    /** The settings of an edge that keeps its sessions here, and gets here over `port`. */
    settings(port = this.port) {
        return `[store]\nurl = "${this.url(port)}"\n`;
    }

    /** Starts the server, also again: on the same port, with the same data. */
    async begin() {
        assert.ok(!this.server || this.server.ended, 'the server runs');
        const server = new Child('postgres', path.join(this.programs, 'postgres'), [
            '-D', this.data, '-k', this.folder, '-p', String(this.port), '-c', 'listen_addresses=127.0.0.1',
            '-c', 'fsync=off', '-c', 'max_connections=100', '-c', 'log_min_messages=warning',
        ], { ...this.user, cwd: this.folder });
        this.server = server;
        await eventually('PostgreSQL', async () => {
            assert.ok(!server.ended, server.output);
            // It takes connections before it answers them.
            await this.run('pg_isready', ['--quiet', '--host=127.0.0.1', '--port', String(this.port)]);
            return true;
        }, PATIENCE_MS);
    }

    /** Stops the server as an operator does who waits for nobody: connections are closed, everything is written. */
    async stop() {
        await this.end('SIGINT');
    }

    /** Ends the server as a power failure would: nobody is told, nothing is tidied up. */
    async crash() {
        await this.end('SIGKILL');
    }

    async restart() {
        await this.stop();
        await this.begin();
    }

    /** The server and all its processes stand still: connections stay open and nobody answers. */
    freeze() {
        this.server?.killGroup('SIGSTOP');
        this.signalBackends('SIGSTOP');
    }

    /** And go on. */
    thaw() {
        this.signalBackends('SIGCONT');
        this.server?.killGroup('SIGCONT');
    }

    /**
     * Carries out a statement.
     *
     * @param {string} statement
     * @returns {Promise<string>} what it gave: a line a row, with | between columns
     */
    async sql(statement) {
        const options = ['--no-psqlrc', '--tuples-only', '--no-align', '--set=ON_ERROR_STOP=1', '--dbname', this.url()];
        return (await this.run('psql', [...options, '--command', statement])).trim();
    }

    async destroy() {
        this.thaw();
        await this.end('SIGQUIT');
        rmSync(this.folder, { recursive: true, force: true });
    }

    /** @param {NodeJS.Signals} signal */
    async end(signal) {
        if (!this.server || this.server.ended) return;
        // Each process of the server leads a group of its own, so that a signal to one group reaches one of them.
        if (signal === 'SIGKILL') this.signalBackends(signal);
        this.server.kill(signal);
        await eventually('end of PostgreSQL', () => this.server?.ended, PATIENCE_MS);
    }

    /** @param {NodeJS.Signals} signal */
    signalBackends(signal) {
        for (const pid of childrenOf(this.server?.pid)) {
            try {
                process.kill(pid, signal);
            } catch {
                // It has ended since.
            }
        }
    }

    /**
     * @param {string} program
     * @param {string[]} args
     * @returns {Promise<string>} what it printed
     */
    async run(program, args) {
        const options = { ...this.user, cwd: this.folder, timeout: PATIENCE_MS };
        return (await promisify(execFile)(path.join(this.programs, program), args, options)).stdout;
    }
}

/**
 * Runs `use` against a server, and stops it whatever happens.
 *
 * @param {(postgres: Postgres) => Promise<void>} use
 */
export async function withPostgres(use) {
    const postgres = await Postgres.start();
    try {
        await use(postgres);
    } finally {
        await postgres.destroy();
    }
}

/** Where the server's programs are: Debian keeps them out of the path, by version. @returns {string | undefined} */
function programs() {
    const debian = '/usr/lib/postgresql';
    const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
    const folders = [...versions.map(version => path.join(debian, version, 'bin')), ...(process.env.PATH ?? '').split(':')];
    return folders.find(folder => ['initdb', 'postgres'].every(program => existsSync(path.join(folder, program))));
}

function isRoot() {
    return process.getuid?.() === 0;
}

/**
 * Who runs the server in root's stead, since PostgreSQL refuses to be run by root.
 *
 * @returns {{ uid: number, gid: number } | undefined}
 */
function unprivileged() {
    const users = readFileSync('/etc/passwd', 'utf8').split('\n').map(line => line.split(':'));
    const user = ['postgres', 'nobody'].map(name => users.find(fields => fields[0] === name)).find(Boolean);
    return user && { uid: Number(user[2]), gid: Number(user[3]) };
}

/** @param {number | undefined} pid */
function childrenOf(pid) {
    if (!pid) return [];
    try {
        const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
        return children.trim().split(/\s+/).filter(Boolean).map(Number);
    } catch {
        return [];
    }
}
