//! Paths of the settings that lead nowhere: one line names the setting, the path, and what to do.

import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { eventually, within } from '../harness/deadline.mjs';
import { Edge, temporaryDirectory, withEdge } from '../harness/edge.mjs';
import { BINARY, Child } from '../harness/process.mjs';

/** A folder that nobody can make: what is above it is a file. */
const NOWHERE = '/etc/hostname/nowhere';

/** @type {Record<string, [settings: string, told: RegExp]>} */
const FATAL = {
    'log.server': [`[log]\nserver = "${NOWHERE}/a.log"\n`, /log\.server: cannot write .*nowhere\/a\.log: .*; name a file in a folder/],
    'log.error': [`[log]\nerror = "${NOWHERE}/a.log"\n`, /log\.error: cannot write .*nowhere\/a\.log: .*; name a file in a folder/],
    'log.sessions': [`[log]\nsessions = "${NOWHERE}/a.log"\n`, /log\.sessions: cannot write .*; name a file in a folder/],
    'log.access': [`[log]\naccess = "${NOWHERE}/a.log"\n`, /log\.access: cannot write .*; name a file in a folder/],
    'log.usage': [`[log]\nusage = "${NOWHERE}/a.log"\n`, /log\.usage: cannot write .*; name a file in a folder/],
    data: [`data = "${NOWHERE}"\n`, /cannot create the folder .*nowhere \(data, --data\)/],
    secret_file: ['secret_file = "/etc"\n', /secret_file: cannot read the cluster secret \/etc: Is a directory/],
    'portal.password_file': [
        `[portal]\npassword_file = "${NOWHERE}/a"\n`,
        /portal\.password_file: name a file that the user who runs the edge may read and write: .*nowhere\/a/,
    ],
    certificates: [
        `[[certificates]]\nchain = "${NOWHERE}/a.pem"\nkey = "/etc/hostname"\n`,
        /certificates\.chain: cannot read .*a\.pem: .*; name a PEM file/,
    ],
};

for (const [setting, [settings, told]] of Object.entries(FATAL)) {
    test(`a path in ${setting} that leads nowhere is named, and what to do`, async () => {
        const folder = temporaryDirectory('paths');
        try {
            const file = path.join(folder, 'ctedge.toml');
            writeFileSync(file, `${setting === 'data' ? '' : `data = "${folder}/data"\n`}${settings}`);
            const args = ['--http', '127.0.0.1:0', '--https', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--node-base-port', '0'];
            const child = new Child('ctedge up', BINARY, ['up', '--config', file, '--nodes', '1', ...args]);
            assert.equal((await within('the end of ctedge up', child.exit, 60_000)).code, 1, child.output);
            assert.match(child.output, told);
        } finally {
            rmSync(folder, { recursive: true, force: true });
        }
    });
}

test('files that are looked at while the edge runs are told with their settings, and stop nothing', async () => {
    const config = '[portal]\nclients_folder = "/etc/hostname"\n[license]\nfile = "/etc"\n';
    await withEdge({ nodes: 1, config }, async edge => {
        const server = [...edge.logs()].find(([name]) => name.endsWith('server.log'))?.[1] ?? '';
        assert.match(server, /portal\.clients_folder: cannot read \/etc\/hostname: .*; name a folder/);
        assert.match(server, /\/etc: cannot be read \(license\.file\): .*; name a file that the user/);
    });
    await withEdge({ nodes: 1, config: '[license]\nconfig = "/etc"\n' }, async edge => {
        const server = [...edge.logs()].find(([name]) => name.endsWith('server.log'))?.[1] ?? '';
        assert.match(server, /\/etc: cannot be read \(license\.config\): .*; name a file that the user/);
    });
});

/** @type {Record<string, [url: string, told: RegExp]>} */
const STORES = {
    'a folder that cannot be made': [
        `sqlite:${NOWHERE}/ctedge.db`,
        /store\.url: the folder .*nowhere cannot be made: .*; name a file in a folder that the user who runs the edge may write to/,
    ],
    'a file that is a folder': ['sqlite:/etc', /store\.url: the store sqlite:\/etc cannot be used: .*; see that there is such a database/],
    'a server that is not there': [
        'postgres://ct:geheim@127.0.0.1:1/ct',
        /store\.url: the store postgres:\/\/127\.0\.0\.1:1\/ct cannot be used: .*; see that there is such a database/,
    ],
};

for (const [what, [url, told]] of Object.entries(STORES)) {
    test(`${what} is told with store.url, and what to do, while the nodes wait for their store`, async () => {
        const edge = new Edge({ nodes: 1, config: `[store]\nurl = "${url}"\n` });
        try {
            const texts = () => [...edge.logs().values()];
            await eventually('line about the store', () => texts().some(text => told.test(text)), 60_000);
            assert.ok(!texts().some(text => text.includes('geheim')), 'a log has the password');
        } finally {
            await edge.destroy(false);
        }
    });
}
