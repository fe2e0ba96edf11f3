//! Licenses, signed by the real tool with a key of the test's own.

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { within } from './deadline.mjs';
import { temporaryDirectory } from './edge.mjs';
import { BINARY, Child, ctedge } from './process.mjs';

/** A last day that no test lives to see. */
export const FAR = '2999/12/31';

/** Whoever issues licenses. */
export class Issuer {
    static async create() {
        const folder = temporaryDirectory('issuer');
        const key = path.join(folder, 'private.key');
        const { code, output } = await ctedge(['license', 'keygen', '--json', '--out', key]);
        assert.equal(code, 0, output);
        return new Issuer(folder, key, JSON.parse(output).public_key);
    }

    /**
     * @param {string} folder
     * @param {string} key
     * @param {string} publicKey
     */
    constructor(folder, key, publicKey) {
        this.folder = folder;
        this.key = key;
        this.publicKey = publicKey;
        /** What an edge of this issuer's customers has in its environment. */
        this.env = { CTEDGE_LICENSE_PUBLIC_KEY: publicKey };
    }

    /**
     * @typedef {object} Terms
     * @property {number} connections
     * @property {string} [expiration]
     * @property {string} [locator]
     * @property {string} [licensee]
     *
     * @param {Terms} terms
     * @param {string[]} args
     */
    async run({ connections, expiration = FAR, locator = 'none', licensee = 'Example & Söhne' }, args) {
        const { code, output } = await ctedge([
            'license', 'sign', '--key', this.key, '--licensee', licensee, '--connections', String(connections),
            '--expiration', expiration, '--locator', locator, ...args,
        ]);
        assert.equal(code, 0, output);
        return output;
    }

    /**
     * Puts a license where an edge looks for it.
     *
     * @param {string} data the edge's data folder
     * @param {Terms} terms
     */
    async install(data, terms) {
        await this.run(terms, ['--out', path.join(data, 'licensing.properties')]);
    }

    /**
     * A license as the variables of an environment.
     *
     * @param {Terms} terms
     */
    async variables(terms) {
        const fields = JSON.parse(await this.run(terms, ['--json']));
        return {
            ...this.env,
            CT_LICENSEE: fields.licensee,
            CT_MAXCONNECTIONS: fields.maxconnections,
            CT_EXPIRATION: fields.expiration,
            CT_LOCATOR: fields.locator,
            CT_SIGNATURE: fields.signature,
        };
    }

    forget() {
        rmSync(this.folder, { recursive: true, force: true });
    }
}

/**
 * What `ctedge license verify` says under these variables.
 *
 * @param {Record<string, string>} env
 * @param {string[]} [args]
 */
export async function verify(env, args = []) {
    const child = new Child('ctedge license verify', BINARY, ['license', 'verify', ...args], { env });
    const { code } = await within('end of ctedge license verify', child.exit, 30_000);
    return { code, lines: child.lines.all };
}
