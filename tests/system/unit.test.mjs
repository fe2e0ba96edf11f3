//! The systemd unit, installed and used as it says itself.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { Machine, withoutMachines } from '../harness/machine.mjs';
import { BINARY } from '../harness/process.mjs';

const ROOT = path.resolve(import.meta.dirname, '../..');
const UNIT = readFileSync(path.join(ROOT, 'deploy/ctedge.service'), 'utf8');
const skip = withoutMachines();

/** @type {Machine} */
let machine;

before(async () => {
    if (!skip) machine = await Machine.boot();
});

after(() => machine?.destroy());

/** @param {string} name of a property of the unit */
const show = name => machine.must('systemctl', 'show', 'ctedge', '--property', name, '--value').trim();

/** Waits until all nodes serve; gives the process of the supervisor. */
async function serves() {
    await eventually('ready nodes', () => machine.run('ctedge', 'status').said.match(/^node-\d +ready/gm)?.length === 3, 60_000);
    return show('MainPID');
}

/** The first line of an answer of the balancer at a port. @param {number} port */
function answer(port) {
    const script = `exec 3<>/dev/tcp/127.0.0.1/${port} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3`;
    return machine.run('bash', '--norc', '-c', script).said;
}

test('the commands in the unit install an edge that starts with the machine', { skip }, async () => {
    const commands = UNIT.split('\n').filter(line => line.startsWith('#   ')).map(line => line.slice(4));
    assert.match(commands.at(-1) ?? '', /^systemctl enable --now ctedge$/);
    for (const command of commands) {
        machine.must('sh', '-c', `cd "$1" && ${command.replace('target/release/ctedge', BINARY)}`, 'sh', ROOT);
    }
    await serves();
    assert.equal(machine.run('systemctl', 'is-enabled', 'ctedge').output, 'enabled\n');
    assert.match(machine.must('stat', '-c', '%U %a', '/var/lib/ctedge'), /^ctedge 700$/m);
    assert.match(answer(1080), /^HTTP\/1\.[01] 200 /);
});

test('a reload and a restart go on in the same supervisor, with the settings as they are by then', { skip }, async () => {
    const before = await serves();
    machine.must('sed', '-i', 's/^deadline = "10m"/deadline = "11m"/', '/etc/ctedge/ctedge.toml');
    machine.must('systemctl', 'reload', 'ctedge');
    await eventually('word of the reload', () => machine.must('journalctl', '-u', 'ctedge').includes('node.drain.deadline'));
    assert.match(machine.must('ctedge', 'restart'), /^done$/m);
    assert.equal(await serves(), before);
});

test('an edge whose supervisor is killed is started again', { skip }, async () => {
    const before = await serves();
    machine.must('systemctl', 'kill', '--signal', 'KILL', '--kill-whom', 'main', 'ctedge');
    await eventually('another supervisor', () => show('ActiveState') === 'active' && show('MainPID') !== before);
    await serves();
});

test('variables stand in a file of root, and a line lets it bind ports below 1024', { skip }, async () => {
    const line = UNIT.match(/^#(AmbientCapabilities=.*)$/m)?.[1];
    assert.ok(line, 'the unit says how');
    machine.write('/etc/ctedge/environment', 'CT_SERVER_URL=https://edge.example.com\n');
    machine.must('chmod', '600', '/etc/ctedge/environment');
    machine.must('sed', '-i', 's/^http = "0.0.0.0:1080"/http = "0.0.0.0:80"/', '/etc/ctedge/ctedge.toml');
    machine.write('/etc/systemd/system/ctedge.service.d/override.conf', `[Service]\n${line}\n`);
    machine.must('systemctl', 'daemon-reload');
    machine.must('systemctl', 'restart', 'ctedge');
    await serves();
    assert.match(answer(80), /^HTTP\/1\.[01] 200 /);
    assert.match(machine.must('journalctl', '-u', 'ctedge'), /public URL https:\/\/edge\.example\.com/);
});

test('a stop ends everything in order', { skip }, async () => {
    await serves();
    machine.must('systemctl', 'stop', 'ctedge');
    assert.deepEqual([show('ActiveState'), show('Result')], ['inactive', 'success']);
    assert.equal(machine.run('pgrep', '-x', 'ctedge').output, '');
    // The journal takes the last lines in by itself.
    await eventually('the last word', () => /: stopped\n/.test(machine.must('journalctl', '-u', 'ctedge')));
});
