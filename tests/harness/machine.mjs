//! A machine that runs systemd, as an operator has one, made of this one: what happens to it is forgotten with it.

import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, rmSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import { eventually } from './deadline.mjs';
import { temporaryDirectory } from './edge.mjs';
import { Child } from './process.mjs';
import { without, run } from './programs.mjs';

const BOOT = path.join(import.meta.dirname, 'systemd');

/** What keeps a test from having one, as the `skip` of a test wants it: not everybody may make one, be it in CI. */
export function withoutMachines() {
    const missing = without({ 'systemd-analyze': 'systemd', nsenter: 'util-linux', ip: 'iproute2' });
    if (missing) return missing;
    const { code, said } = run('unshare', ['--mount', '--pid', '--fork', '--net', '--cgroup', 'true']);
    return code === 0 ? false : `no machine can be made of this one, which takes root: ${said.trim()}`;
}

export class Machine {
    /** Boots one. */
    static async boot() {
        const machine = new Machine();
        try {
            machine.init = await eventually('systemd', () => machine.child());
            await eventually('boot of systemd', () => /running|degraded/.test(machine.run('systemctl', 'is-system-running').said), 30_000);
        } catch (error) {
            await machine.destroy();
            throw new Error(`${error}\n${machine.around.output}`);
        }
        return machine;
    }

    /** @private */
    constructor() {
        this.folder = temporaryDirectory('machine');
        this.around = new Child('a machine', BOOT, [this.folder]);
        /** The pid of its first process. */
        this.init = 0;
    }

    /** The first process, as this machine sees it, once it is systemd. @private */
    child() {
        const { pid } = this.around;
        const child = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8'));
        return child > 0 && readFileSync(`/proc/${child}/comm`, 'utf8') === 'systemd\n' && child;
    }

    /** Runs a command on it to its end. @param {string[]} command */
    run(...command) {
        const into = ['--target', `${this.init}`, '--mount', '--pid', '--uts', '--ipc', '--net', '--cgroup', '--root', '--wd'];
        const paths = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
        // As long as a restart of a whole edge may take.
        return run('nsenter', [...into, 'env', '--ignore-environment', paths, ...command], undefined, 180_000);
    }

    /** The same; an error if it fails. @param {string[]} command */
    must(...command) {
        const { code, said } = this.run(...command);
        if (code !== 0) throw new Error(`${command.join(' ')}: ${code}: ${said}`);
        return said;
    }

    /** Writes a file on it. @param {string} file @param {string} text */
    write(file, text) {
        this.must('install', '-D', '-m', '644', '/dev/null', file);
        this.must('sh', '-c', `printf '%s' "$1" >"$2"`, 'sh', text, file);
    }

    async destroy() {
        this.around.killGroup('SIGKILL');
        await this.around.exit;
        rmSync(this.folder, { recursive: true, force: true });
        const groups = readFileSync('/proc/mounts', 'utf8').split('\n').map(line => line.split(' ')).find(([, , type]) => type === 'cgroup2')?.[1];
        if (groups) await eventually('end of its processes', () => removeGroup(path.join(groups, `ctedge-test-${this.around.pid}`)));
    }
}

/** A control group can only be removed when nothing is below it. @param {string} group */
function removeGroup(group) {
    for (const entry of readdirSync(group, { withFileTypes: true })) {
        if (entry.isDirectory()) removeGroup(path.join(group, entry.name));
    }
    rmdirSync(group);
    return true;
}
