//! A machine of its own for a client: a network namespace with one cable to this machine, which can be cut.

import { without, run } from './programs.mjs';

/** What keeps a test from having one, as the `skip` of a test wants it: not everybody may make one, be it in CI. */
export function withoutNamespaces() {
    const missing = without({ ip: 'iproute2' });
    if (missing) return missing;
    try {
        new Namespace().destroy();
        return false;
    } catch (error) {
        return `no network namespace can be made, which takes root: ${/** @type {Error} */ (error).message.trim()}`;
    }
}

/** @param {string[]} args */
function ip(...args) {
    const { code, said } = run('ip', args);
    if (code !== 0) throw new Error(`ip ${args.join(' ')}: ${said}`);
}

export class Namespace {
    constructor() {
        const number = process.pid % 0x4000;
        this.name = `ctedge-${process.pid}`;
        this.cable = `ctn${process.pid}`;
        // Addresses for trials between networks, which nobody else uses (RFC 2544).
        const network = `198.18.${number >> 6}`;
        /** This machine, as the namespace sees it. */
        this.host = `${network}.${(number % 64) * 4 + 1}`;
        this.own = `${network}.${(number % 64) * 4 + 2}`;
        ip('netns', 'add', this.name);
        try {
            ip('link', 'add', this.cable, 'type', 'veth', 'peer', 'name', 'cable', 'netns', this.name);
            ip('address', 'add', `${this.host}/30`, 'dev', this.cable);
            ip('link', 'set', this.cable, 'up');
            ip('-n', this.name, 'address', 'add', `${this.own}/30`, 'dev', 'cable');
            ip('-n', this.name, 'link', 'set', 'cable', 'up');
        } catch (error) {
            this.destroy();
            throw error;
        }
    }

    /** From then on nothing that either side sends arrives, and neither is told. */
    cut() {
        ip('-n', this.name, 'link', 'set', 'cable', 'down');
    }

    /** The arguments that run a program in it. @param {string[]} command */
    running(...command) {
        return ['netns', 'exec', this.name, ...command];
    }

    destroy() {
        // The kernel takes its time to end a namespace and what is in it.
        run('ip', ['link', 'del', this.cable]);
        ip('netns', 'del', this.name);
    }
}
