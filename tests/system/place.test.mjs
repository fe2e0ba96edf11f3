//! An operator's commands find the edge that runs, from any folder and whatever it was started with.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { within } from '../harness/deadline.mjs';
import { freePort, temporaryDirectory } from '../harness/edge.mjs';
import { Issuer } from '../harness/license.mjs';
import { BINARY, Child, ctedge } from '../harness/process.mjs';
import { zipped } from '../harness/zip.mjs';

const folder = temporaryDirectory('place');
const config = path.join(folder, 'etc/ctedge.toml');
const data = path.join(folder, 'var/lib/ctedge');
/** Where the operator stands. */
const elsewhere = path.join(folder, 'home');
const file = path.join(elsewhere, 'oct.vsix');
/** What the edge's admin API asks for. */
const TOKEN = 'a-token-of-operators';

/** The version that runs. */
let own = '';
/** A registry that has it, and another one. */
const registry = createServer((_, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ name: 'a', tags: [own, '9.9.9'] }));
});

/** @type {Issuer} */
let issuer;
/** @type {Child} */
let edge;
let http = '';
let admin = '';

before(async () => {
    issuer = await Issuer.create();
    for (const directory of [path.dirname(config), data, elsewhere]) mkdirSync(directory, { recursive: true });
    http = `127.0.0.1:${await freePort()}`;
    admin = `127.0.0.1:${await freePort()}`;
    own = (await ctedge(['--version'])).output.trim().split(' ')[1];
    await new Promise(resolve => registry.listen(0, '127.0.0.1', () => resolve(undefined)));
    const { port } = /** @type {import('node:net').AddressInfo} */ (registry.address());
    // As deploy/ctedge.service has it: the file says nothing of the data folder, an option does.
    writeFileSync(config, 'data = "ctedge-data"\n[up]\nnodes = 1\nnode_base_port = 0\n'
        + `[balancer]\nhttp = "${http}"\nhttps = ""\nadmin = "${admin}"\nadmin_token = "${TOKEN}"\n`
        + `[portal]\nregistry = "http://127.0.0.1:${port}"\nrepository = "a"\n`);
    await issuer.install(data, { connections: 7 });
    const about = { name: 'x', publisher: 'y', version: '1.2.3', engines: { vscode: '^1.73.0' } };
    writeFileSync(file, zipped({ 'extension.vsixmanifest': '<PackageManifest/>', 'extension/package.json': JSON.stringify(about) }));
    edge = new Child('ctedge up', BINARY, ['up', '--config', config, '--data', data], { cwd: '/', env: issuer.env });
    await edge.line(/^ready$/, 60_000);
});

after(async () => {
    await edge?.stop();
    registry.closeAllConnections();
    registry.close();
    issuer?.forget();
    rmSync(folder, { recursive: true, force: true });
});

/**
 * A command from elsewhere.
 *
 * @param {string[]} args
 * @param {Record<string, string>} [env]
 */
async function operate(args, env = {}) {
    const child = new Child(`ctedge ${args[0]}`, BINARY, args, { cwd: elsewhere, env: { ...issuer.env, ...env } });
    const { code } = await within(`end of ctedge ${args.join(' ')}`, child.exit, 30_000);
    return { code, output: child.output };
}

const ways = [
    { name: 'the settings file', args: [['--config', config]], env: {} },
    { name: 'CTEDGE_CONFIG', args: [[]], env: { CTEDGE_CONFIG: config } },
    { name: 'the address of its balancer', args: [], env: { CTEDGE_ADMIN_TOKEN: TOKEN } },
    { name: 'its data folder', args: [['--data', data]], env: {} },
];

for (const { name, args: [given], env } of ways) {
    test(`by ${name}`, async () => {
        const where = given ?? ['--admin', admin];
        const added = await operate(['clients', 'add', file, ...where], env);
        assert.equal(added.code, 0, added.output);
        assert.equal(added.output.includes('note:'), false, added.output);
        const download = await fetch(`http://${http}/clients/vscode/codetogether-onpremises-1.2.3.vsix`);
        assert.equal(download.status, 200);
        rmSync(path.join(data, 'clients'), { recursive: true });

        const shown = await operate(['license', 'show', '--json', ...where], env);
        assert.equal(JSON.parse(shown.output).source, path.join(data, 'licensing.properties'));
        const verified = await operate(['license', 'verify', ...where], env);
        assert.deepEqual([verified.code, verified.output.includes('valid for 7 connections')], [0, true], verified.output);

        const published = await operate(['versions', ...where], env);
        // It would say so if the balancer had not told which version runs.
        assert.deepEqual(published, { code: 0, output: `  9.9.9\n* ${own}` });

        const looked = await operate(['doctor', '--no-session', '--json', ...where], env);
        const codes = JSON.parse(looked.output).findings.map((/** @type {any} */ finding) => finding.code);
        for (const code of ['nodes.ready', 'store.ok', 'license.seats']) assert.ok(codes.includes(code), looked.output);
        assert.ok(!looked.output.includes(elsewhere), looked.output);
        assert.deepEqual(readdirSync(elsewhere), ['oct.vsix'], 'something was made where the operator stands');
    });
}

test('where no edge is, nothing is added, and it is said how to name one', async () => {
    const nowhere = `127.0.0.1:${await freePort()}`;
    const lost = await operate(['clients', 'add', file, '--admin', nowhere]);
    assert.equal(lost.code, 1, lost.output);
    assert.match(lost.output, /no edge runs here, and there is no data folder .*home\/ctedge-data.*--config.*--data/);
    const mistyped = await operate(['clients', 'add', file, '--data', `${data}x`]);
    assert.equal(mistyped.code, 1, mistyped.output);
    assert.deepEqual(readdirSync(elsewhere), ['oct.vsix']);
    assert.ok(!existsSync(`${data}x`));
    const shown = await operate(['license', 'show', '--admin', nowhere]);
    assert.match(shown.output, /^source +none, neither .*home\/ctedge-data\/licensing\.properties nor .*codetogether\.config$/m, shown.output);

    // Before the first start, or for a node that runs without `ctedge up`, the folder is there.
    const early = path.join(elsewhere, 'early');
    mkdirSync(early);
    const added = await operate(['clients', 'add', file, '--data', early]);
    assert.equal(added.code, 0, added.output);
    assert.match(added.output, /^note: `ctedge up` does not run on the data folder .*early;/m);
    rmSync(early, { recursive: true });
});
