//! Zip archives, as much of them as tests need: written without compression, read with it.

import { inflateRawSync } from 'node:zlib';

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte;
    for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
    return value;
});

/** @param {Buffer} bytes */
function crc32(bytes) {
    let crc = 0xffffffff;
    for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
    return (crc ^ 0xffffffff) >>> 0;
}

/**
 * An archive with these entries.
 *
 * @param {Record<string, string | Buffer>} entries
 * @returns {Buffer}
 */
export function zipped(entries) {
    const files = [];
    const directory = [];
    let at = 0;
    for (const [name, content] of Object.entries(entries)) {
        const bytes = Buffer.from(content);
        // Version 2.0, UTF-8 names, stored, 1980-01-01.
        const common = Buffer.alloc(26);
        common.writeUInt16LE(20, 0);
        common.writeUInt16LE(0x0800, 2);
        common.writeUInt16LE(0x21, 8);
        common.writeUInt32LE(crc32(bytes), 10);
        common.writeUInt32LE(bytes.length, 14);
        common.writeUInt32LE(bytes.length, 18);
        common.writeUInt16LE(Buffer.byteLength(name), 22);
        const file = Buffer.concat([Buffer.from('PK\x03\x04'), common, Buffer.from(name), bytes]);
        const offset = Buffer.alloc(14);
        offset.writeUInt32LE(at, 10);
        directory.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), common, offset, Buffer.from(name));
        files.push(file);
        at += file.length;
    }
    const listed = Buffer.concat(directory);
    const end = Buffer.alloc(22);
    end.write('PK\x05\x06', 'latin1');
    const count = Object.keys(entries).length;
    end.writeUInt16LE(count, 8);
    end.writeUInt16LE(count, 10);
    end.writeUInt32LE(listed.length, 12);
    end.writeUInt32LE(at, 16);
    return Buffer.concat([...files, listed, end]);
}

/**
 * The text of one entry of an archive.
 *
 * @param {Buffer} archive
 * @param {string} wanted
 * @returns {string}
 */
export function entryOf(archive, wanted) {
    const end = archive.lastIndexOf('PK\x05\x06', undefined, 'latin1');
    let at = archive.readUInt32LE(end + 16);
    for (let left = archive.readUInt16LE(end + 10); left > 0; left -= 1) {
        const [method, size] = [archive.readUInt16LE(at + 10), archive.readUInt32LE(at + 20)];
        const lengths = [28, 30, 32].map(field => archive.readUInt16LE(at + field));
        const name = archive.toString('utf8', at + 46, at + 46 + lengths[0]);
        if (name === wanted) {
            const file = archive.readUInt32LE(at + 42);
            const from = file + 30 + archive.readUInt16LE(file + 26) + archive.readUInt16LE(file + 28);
            const bytes = archive.subarray(from, from + size);
            return (method === 0 ? bytes : inflateRawSync(bytes)).toString('utf8');
        }
        at += 46 + lengths[0] + lengths[1] + lengths[2];
    }
    throw new Error(`no ${wanted} in the archive`);
}
