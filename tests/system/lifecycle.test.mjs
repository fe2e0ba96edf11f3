//! The processes: starting, stopping, dying, and what the operator's commands say.

import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { Edge, ctedge, filesBelow, temporaryDirectory, withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';
import { alive } from '../harness/process.mjs';
import { byNodeHttp } from '../harness/raw.mjs';

/**
 * @param {Edge} edge
 * @returns {Promise<number[]>} the pids of the nodes
 */
async function nodePids(edge) {
    return (await edge.admin.status()).nodes.map((/** @type {any} */ node) => node.pid);
}

/**
 * The children of a process.
 *
 * @param {number} parent
 * @returns {number[]}
 */
function childrenOf(parent) {
    return readdirSync('/proc').filter(name => /^\d+$/.test(name)).map(Number).filter(pid => {
        try {
            // The command's name, in parentheses, may hold spaces; what follows it does not.
            const [, rest] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(/\) (?=[A-Z] \d+)/);
            const [state, parentPid] = (rest ?? '').split(' ');
            return Number(parentPid) === parent && state !== 'Z';
        } catch {
            return false;
        }
    });
}

/**
 * Whether a process runs: one that has ended may still wait for its parent to notice.
 *
 * @param {number} pid
 */
function runs(pid) {
    try {
        return !/\) Z \d+/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
    } catch {
        return false;
    }
}

for (const signal of /** @type {const} */ (['SIGTERM', 'SIGINT'])) {
    test(`${signal} stops everything and ends with 0, sessions or not`, async () => {
        const edge = await Edge.start();
        try {
            await meeting(async meet => {
                const host = await meet('host', edge.http).host();
                await meet('guest', edge.http).join(host.roomId);
                const pids = childrenOf(edge.child.pid);
                assert.equal(pids.length, 4, 'a balancer and three nodes');
                assert.equal(await edge.child.stop(signal), 0, edge.child.output);
                assert.deepEqual(pids.filter(alive), []);
            });
        } finally {
            await edge.destroy(false);
        }
    });
}

test('`ctedge stop` returns when every process has ended, and says how everything is started again', async () => {
    const edge = await Edge.start({ nodes: 2 });
    try {
        const pids = [edge.child.pid, ...childrenOf(edge.child.pid)];
        const said = await edge.operate(['stop']);
        assert.deepEqual(pids.filter(runs), [], said);
        assert.match(said, /^everything stops, .* at most \d+ s$/m);
        assert.match(said, /^the edge has stopped\. `ctedge up`, /m);
        assert.equal((await edge.child.exit).code, 0, edge.child.output);

        const started = await ctedge(['start', '--data', edge.data]);
        assert.equal(started.code, 1);
        assert.match(started.output, /`ctedge start` starts processes of an edge that runs, and not the edge itself/);
        assert.match(started.output, /`ctedge up`, .* `systemctl start ctedge`/);
    } finally {
        await edge.destroy(false);
    }
});

test('what the edge writes is for its user alone, and the logs for those of its group too', async () => {
    const folder = temporaryDirectory('rights');
    const data = path.join(folder, 'data');
    const mode = (/** @type {string} */ file) => (statSync(file).mode & 0o777).toString(8);
    const modes = (/** @type {string} */ ending) => {
        const files = filesBelow(data).filter(file => file.endsWith(ending));
        assert.notEqual(files.length, 0, `no ${ending} in ${filesBelow(data)}`);
        return [...new Set(files.map(mode))];
    };
    try {
        // Everything is made anew, as at the first start of a machine.
        const edge = await Edge.start({ data, nodes: 1 });
        try {
            await meeting(meet => meet('ada', edge.http).host());
            assert.match(readFileSync(path.join(data, 'logs/server.log'), 'utf8'), /with the password/);
            assert.equal(mode(data), '700');
            assert.equal(mode(path.join(data, 'run')), '700');
            assert.equal(mode(path.join(data, 'logs')), '750');
            assert.deepEqual(modes('.log'), ['640']);
            for (const ending of ['ctedge.db', '-wal', '-shm', '.secret', '.password', '.key', 'run/ctedge.toml']) {
                assert.deepEqual(modes(ending), ['600'], ending);
            }
            assert.doesNotMatch(edge.child.output, /other users of this machine/);
        } finally {
            await edge.stop();
        }
        // A folder that others can look into is not closed behind their back, but said.
        chmodSync(data, 0o755);
        const open = await Edge.start({ data, nodes: 1 });
        assert.match(open.child.output, /other users of this machine may look into the data folder/);
        await open.stop();
    } finally {
        rmSync(folder, { recursive: true, force: true });
    }
});

test('what a child says is set aside while it runs, and it goes on in the file that `ctedge list` names', async () => {
    await withEdge({ config: '[up]\nnodes = 1\n' }, async edge => {
        const { log_file: log, pid } = await edge.listed('node-1');
        appendFileSync(log, 'x'.repeat(17 * 1024 * 1024) + '\n');
        await eventually('an empty log', () => statSync(log).size < 1024 * 1024);
        assert.equal(statSync(`${log}.1`).size, 16 * 1024 * 1024);
        writeFileSync(path.join(edge.data, 'test.toml'), '[up]\nnodes = 1\n[portal]\nclients = false\n');
        await edge.operate(['reload']);
        await eventually('a line of the node', () => readFileSync(log, 'utf8').includes('the node read its settings again'));
        assert.ok(!readFileSync(log).includes(0), 'the node goes on behind a hole');
        assert.equal((await edge.listed('node-1')).pid, pid);
    });
});

test('a child that dies is started again', async () => {
    await withEdge({}, async edge => {
        const killed = await edge.killNode('node-1');
        await eventually('node-1 with another pid', async () => {
            const node = await edge.admin.node('node-1');
            return node.state === 'ready' && node.pid !== killed;
        }, 60_000);
        const balancer = childrenOf(edge.child.pid).find(pid => {
            return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')[1] === 'balancer';
        });
        assert.ok(balancer);
        process.kill(balancer, 'SIGKILL');
        await eventually('end of the balancer', () => !childrenOf(edge.child.pid).includes(balancer));
        await eventually('another balancer', async () => (await byNodeHttp(`${edge.http}/api/meta`)).status === 200, 60_000);
    });
});

test('a supervisor that is killed leaves nothing that stops the next one', async () => {
    const data = temporaryDirectory('leftovers');
    try {
        const first = await Edge.start({ data });
        const pids = [...await nodePids(first), ...childrenOf(first.child.pid)];
        first.child.kill('SIGKILL');
        await first.child.exit;
        const second = await Edge.start({ data });
        try {
            await eventually('end of the leftovers', () => pids.every(pid => !alive(pid)));
            assert.equal((await byNodeHttp(`${second.http}/api/meta`)).status, 200);
            await second.stop();
        } finally {
            await second.destroy(false);
            await first.destroy(false);
        }
    } finally {
        rmSync(data, { recursive: true, force: true });
    }
});

test('the secret and the certificate outlive a restart, and so do logins', async () => {
    const data = temporaryDirectory('restart');
    try {
        const first = await Edge.start({ data });
        const secret = first.secret();
        const certificate = readFileSync(first.certificateFile(), 'utf8');
        let token = '';
        await meeting(async meet => void (token = await meet('ada', first.http).login()));
        await first.stop();
        const second = await Edge.start({ data });
        try {
            assert.equal(second.secret(), secret);
            assert.equal(readFileSync(second.certificateFile(), 'utf8'), certificate);
            const headers = { 'x-oct-jwt': token };
            const answer = await byNodeHttp(`${second.http}/api/login/validate`, { method: 'POST', headers });
            assert.deepEqual(answer.body, { valid: true });
            await second.stop();
        } finally {
            await second.destroy(false);
        }
    } finally {
        rmSync(data, { recursive: true, force: true });
    }
});

test('a second supervisor on the same data directory is refused', async () => {
    await withEdge({}, async edge => {
        const args = ['up', '--data', edge.data, '--http', '127.0.0.1:0', '--https', '127.0.0.1:0', '--admin', '127.0.0.1:0'];
        const { code, output } = await ctedge([...args, '--node-base-port', '0']);
        assert.notEqual(code, 0);
        assert.match(output, /another|running|in use/i);
        assert.equal((await byNodeHttp(`${edge.http}/api/meta`)).status, 200, 'the first goes on');
    });
});

test('check-config shows every fault of a file with its line', async () => {
    const directory = temporaryDirectory('config');
    try {
        const file = path.join(directory, 'edge.toml');
        writeFileSync(file, '[balancer]\nhttp = "nowhere"\ncolour = "red"\n\n[node.timeouts]\ngrace = "1 fortnight"\n');
        const wrong = await ctedge(['check-config', file]);
        assert.equal(wrong.code, 1);
        for (const fault of [/line 2.*http/, /line 3.*colour/, /line 6.*grace/]) assert.match(wrong.output, fault);
        writeFileSync(file, (await ctedge(['default-config'])).output);
        assert.equal((await ctedge(['check-config', file])).code, 0);
    } finally {
        rmSync(directory, { recursive: true, force: true });
    }
});

test('status and explain speak to people and to programs', async () => {
    await withEdge({}, async edge => {
        const admin = ['--admin', edge.admin.address];
        const table = await ctedge(['status', ...admin]);
        assert.equal(table.code, 0, table.output);
        for (const id of ['node-1', 'node-2', 'node-3']) assert.match(table.output, new RegExp(`${id}.*ready`));
        const status = JSON.parse((await ctedge(['status', '--json', ...admin])).output);
        assert.equal(status.nodes.length, 3);
        for (const node of status.nodes) {
            for (const field of ['id', 'address', 'state', 'pid', 'sessions', 'peers', 'lag_ms']) {
                assert.ok(field in node, `${field} of ${JSON.stringify(node)}`);
            }
        }
        const explained = JSON.parse((await ctedge(['explain', 'some-key', '--json', ...admin])).output);
        assert.equal(explained.key, 'some-key');
        assert.match(explained.node, /^node-[123]$/);
        assert.ok(explained.reason);
        assert.match((await ctedge(['explain', 'some-key', ...admin])).output, new RegExp(explained.node));
        const unknown = await ctedge(['drain', 'node-9', ...admin]);
        assert.equal(unknown.code, 1);
        assert.match(unknown.output, /node-1/, 'the refusal names the nodes there are');
    });
});

test('a suspended node keeps its sessions, joiners included, and gets no others until it is resumed', async () => {
    await withEdge({ nodes: 2, args: ['--expose-node'] }, async edge => {
        const admin = ['--admin', edge.admin.address];
        await meeting(async meet => {
            const host = await meet('host', edge.http).host();
            const { node } = await edge.admin.explain(host.roomId);
            const before = (await edge.admin.node(node)).sessions;
            assert.equal((await ctedge(['suspend', node, ...admin])).code, 0);
            await edge.admin.nodeIs(node, 'suspended');
            const guest = await meet('guest', edge.http).join(host.roomId);
            await host.say('still together');
            await guest.hears('still together');
            for (let number = 0; number < 6; number += 1) {
                const other = await meet(`other ${number}`, edge.http).host();
                assert.notEqual((await edge.admin.explain(other.roomId)).node, node);
            }
            assert.equal((await ctedge(['resume', node, ...admin])).code, 0);
            await edge.admin.nodeIs(node, 'ready');
            assert.equal((await edge.admin.node(node)).sessions, Math.max(before, 1));
        });
    });
});

test('a suspended node is still suspended after its death, and after a restart', async () => {
    await withEdge({ nodes: 2 }, async edge => {
        await edge.operate(['suspend', 'node-1']);
        await edge.admin.nodeIs('node-1', 'suspended');
        const first = await edge.killNode('node-1');
        const isBack = (/** @type {number} */ before) => eventually('node-1, suspended again', async () => {
            const { pid, state } = await edge.admin.node('node-1');
            return pid !== before && state === 'suspended' && pid;
        }, 60_000);
        const second = await isBack(first);
        await edge.operate(['restart', 'node-1'], 60_000);
        await isBack(second);
        await edge.operate(['resume', 'node-1']);
        await edge.admin.nodeIs('node-1', 'ready');
        const third = await edge.killNode('node-1');
        await eventually('node-1 ready again', async () => {
            const { pid, state } = await edge.admin.node('node-1');
            return pid !== third && state === 'ready';
        }, 60_000);
    });
});

test('a node that dies in its drain comes back suspended, and the drain is told to have failed', async () => {
    await withEdge({ nodes: 2 }, edge => meeting(async meet => {
        const host = await meet('host', edge.http).host();
        const { node } = await edge.admin.explain(host.roomId);
        const waiting = ctedge(['drain', node, '--deadline', '1h', '--wait', '--admin', edge.admin.address], 60_000);
        await edge.admin.nodeIs(node, 'draining');
        await edge.killNode(node);
        const { code, output } = await waiting;
        assert.equal(code, 1, output);
        assert.match(output, new RegExp(`${node} died in its drain`));
        await edge.admin.nodeIs(node, 'suspended');
        await edge.operate(['drain', node, '--now', '--wait']);
        await edge.operate(['start', node]);
        await edge.admin.nodeIs(node, 'ready');
    }));
});

test('a draining node serves its sessions to their end', async () => {
    await withEdge({ nodes: 2, args: ['--expose-node'] }, async edge => {
        await meeting(async meet => {
            const host = await meet('host', edge.http).host();
            const { node } = await edge.admin.explain(host.roomId);
            assert.equal((await ctedge(['drain', node, '--admin', edge.admin.address])).code, 0);
            await edge.admin.nodeIs(node, 'draining');
            const guest = await meet('guest', edge.http).join(host.roomId);
            await guest.say('to the end');
            await host.hears('to the end');
            const other = await meet('other', edge.http).host();
            assert.notEqual((await edge.admin.explain(other.roomId)).node, node);
        });
    });
});

test('help reads as a list of commands', async () => {
    const { code, output } = await ctedge(['--help']);
    assert.equal(code, 0);
    for (const command of ['up', 'balancer', 'node', 'check-config', 'default-config', 'status', 'explain', 'drain']) {
        assert.match(output, new RegExp(`^\\s+${command}\\s+\\S`, 'm'));
    }
});
