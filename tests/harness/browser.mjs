//! A headless Chromium, and the npm client bundled for its pages.

import { existsSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { temporaryDirectory } from './edge.mjs';

/** Debian's browser, unless told otherwise. */
export const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** Whether there is a browser to test with. */
export const hasChromium = existsSync(CHROMIUM);

/** No traffic but the tests' own, and no profile but a fresh one. */
const FLAGS = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
];

/**
 * @param {(context: import('playwright-core').BrowserContext) => Promise<void>} use
 * @param {{ ignoreHTTPSErrors?: boolean }} [options]
 */
export async function withBrowser(use, options = {}) {
    const profile = temporaryDirectory('chromium');
    const context = await chromium.launchPersistentContext(profile, {
        executablePath: CHROMIUM,
        headless: true,
        args: FLAGS,
        viewport: { width: 1100, height: 760 },
        ...options,
    });
    try {
        await use(context);
    } finally {
        await context.close();
        rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    }
}

/** The script of `page/client.mjs` as a page can load it. @returns {Promise<string>} */
export async function clientScript() {
    const result = await build({
        entryPoints: [path.join(import.meta.dirname, 'page/client.mjs')],
        bundle: true,
        write: false,
        format: 'iife',
        platform: 'browser',
        conditions: ['browser'],
        logLevel: 'silent',
    });
    return result.outputFiles[0].text;
}

/**
 * Keeps a picture where `CTEDGE_PICTURES` says.
 *
 * @param {import('playwright-core').Page} page
 * @param {string} name
 */
export async function picture(page, name) {
    const directory = process.env.CTEDGE_PICTURES;
    if (!directory) return;
    mkdirSync(directory, { recursive: true });
    await page.screenshot({ path: path.join(directory, `${name}.png`), fullPage: true });
}
