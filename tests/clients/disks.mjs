// Real disks that are really full: small file systems of their own.
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// A file system of some MiB. Needs to be root, or `unshare -rm`.
export function smallDisk(mib) {
  const at = mkdtempSync(join(tmpdir(), 'academy-rt-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', at]);
  } catch (error) {
    throw new Error(`this test mounts a small file system: run it as root, or under unshare -rm (${error.message})`);
  }
  const free = () => {
    const { bavail, bsize } = statfsSync(at);
    return bavail * bsize;
  };
  return { at, free, remove() { execFileSync('umount', [at]); rmSync(at, { recursive: true }); } };
}

// Lets a file take all the room of a disk that is left, but `leave` bytes.
export function fillUp(disk, path, leave = 0) {
  const file = openSync(path, 'a');
  const piece = Buffer.alloc(64 << 10, 1);
  while (disk.free() > leave) {
    try {
      writeSync(file, piece, 0, Math.min(piece.length, Math.max(disk.free() - leave, 1)));
    } catch (error) {
      if (error.code !== 'ENOSPC') throw error;
      break;
    }
  }
  closeSync(file);
}
