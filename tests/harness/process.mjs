//! Child processes: their output is kept, and none outlives the test that started it.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Inbox, within } from './deadline.mjs';

const ROOT = path.resolve(import.meta.dirname, '../..');

/** The binary under test. */
export const BINARY = path.resolve(process.env.CTEDGE_BIN ?? path.join(ROOT, 'target/debug/ctedge'));

/** @type {Set<Child>} */
const running = new Set();

// Reached when a test file ends early: whatever is left is killed by its pid, with the group it leads.
process.on('exit', () => {
    for (const child of running) child.killGroup('SIGKILL');
});

/** A process with its output by lines. */
export class Child {
    /**
     * @param {string} name for logs and errors
     * @param {string} command
     * @param {string[]} args
     * @param {{ env?: Record<string, string>, cwd?: string, uid?: number, gid?: number }} [options]
     */
    constructor(name, command, args, options = {}) {
        this.name = name;
        this.lines = new Inbox(name);
        // A group of its own, so that the grandchildren of a killed child can be told apart and ended.
        this.process = spawn(command, args, {
            cwd: options.cwd ?? ROOT,
            uid: options.uid,
            gid: options.gid,
            env: { ...process.env, ...options.env },
            stdio: ['ignore', 'pipe', 'pipe'],
            detached: true,
        });
        /** @type {{ code: number | null, signal: string | null } | undefined} */
        this.ended = undefined;
        for (const stream of [this.process.stdout, this.process.stderr]) this.readLines(stream);
        this.exit = new Promise(resolve => {
            this.process.on('error', error => {
                this.lines.push(`cannot start: ${error.message}`);
                resolve({ code: -1, signal: null });
            });
            this.process.on('close', (code, signal) => resolve({ code, signal }));
        }).then(ended => {
            this.ended = ended;
            running.delete(this);
            return ended;
        });
        running.add(this);
    }

    get pid() {
        return /** @type {number} */ (this.process.pid);
    }

    /** Everything the process said. */
    get output() {
        return this.lines.all.join('\n');
    }

    /** @param {import('node:stream').Readable} stream */
    readLines(stream) {
        let rest = '';
        stream.setEncoding('utf8');
        stream.on('data', text => {
            const lines = (rest + text).split('\n');
            rest = lines.pop() ?? '';
            for (const line of lines) this.lines.push(line);
        });
        stream.on('end', () => rest && this.lines.push(rest));
    }

    /**
     * Waits for a line, or says what the process said instead.
     *
     * @param {RegExp} pattern
     * @param {number} [ms]
     * @returns {Promise<string>}
     */
    async line(pattern, ms) {
        const gone = this.exit.then(({ code, signal }) => {
            throw new Error(`${this.name} ended (${code ?? signal}) before it said ${pattern}:\n${this.output}`);
        });
        gone.catch(() => {});
        const line = this.lines.first(`line ${pattern}`, text => pattern.test(text), ms);
        line.catch(() => {});
        return Promise.race([line, gone]);
    }

    /** @param {NodeJS.Signals} signal */
    kill(signal) {
        if (!this.ended) this.process.kill(signal);
    }

    /** @param {NodeJS.Signals} signal */
    killGroup(signal) {
        try {
            process.kill(-this.pid, signal);
        } catch {
            // Everybody of the group is gone already.
        }
    }

    /**
     * Asks the process to stop and gives its exit code.
     *
     * @param {NodeJS.Signals} [signal]
     * @param {number} [ms]
     */
    async stop(signal = 'SIGTERM', ms = 30_000) {
        this.kill(signal);
        const ended = await within(`end of ${this.name} after ${signal}`, this.exit, ms);
        if (ended.signal) throw new Error(`${this.name} was ended by ${ended.signal}:\n${this.output}`);
        return ended.code;
    }
}

/**
 * Runs the binary to its end.
 *
 * @param {string[]} args
 * @param {number} [ms]
 * @returns {Promise<{ code: number | null, output: string }>}
 */
export async function ctedge(args, ms = 30_000) {
    const child = new Child(`ctedge ${args[0]}`, BINARY, args);
    const { code } = await within(`end of ctedge ${args.join(' ')}`, child.exit, ms);
    return { code, output: child.output };
}

/** @param {number} pid */
export function alive(pid) {
    return existsSync(`/proc/${pid}`);
}
