//! Programs of the machine that a test needs, from the packages that `tests/run` installs.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';

/**
 * What keeps a test from having its programs, as the `skip` of a test wants it. With CI=true nothing is a reason to
 * skip: the test fails then, for want of the program.
 *
 * @param {Record<string, string>} programs each with the package that brings it
 * @returns {string | false}
 */
export function without(programs) {
    const missing = Object.entries(programs).filter(([program]) => !find(program));
    if (process.env.CI === 'true' || missing.length === 0) return false;
    const packages = [...new Set(missing.map(([, name]) => name))].join(' ');
    return `${missing.map(([program]) => program).join(' and ')} not installed (apt-get install ${packages})`;
}

/** @param {string} program @returns {string | undefined} where it is */
function find(program) {
    const folders = (process.env.PATH ?? '').split(':');
    return folders.map(folder => path.join(folder, program)).find(file => existsSync(file));
}

/**
 * Runs a program to its end.
 *
 * @param {string} program
 * @param {string[]} args
 * @param {string} [input]
 * @param {number} [timeout] in milliseconds
 */
export function run(program, args, input, timeout = 30_000) {
    const { status, stdout, stderr, error } = spawnSync(program, args, { input, encoding: 'utf8', timeout });
    if (error) throw error;
    return { code: status, output: stdout, said: stdout + stderr };
}
