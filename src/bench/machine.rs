//! What the figures depend on besides the program: CPU time of processes, the disk, the machine.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use super::stats::percentile;

/// Clock ticks per second in /proc/PID/stat: USER_HZ, which is 100 on every Linux (proc(5), sysconf(3)).
const TICKS_PER_S: f64 = 100.0;
/// The file that fdatasync is tried on, bytes.
const PROBE_BYTES: usize = 1 << 20;
/// One write of the probe, bytes.
const PROBE_WRITE: usize = 4 << 10;
/// Writes of the probe; some 50 ms on a fast disk.
const PROBE_WRITES: usize = 256;

/// CPU seconds, user and system, that these processes have used, those of ended threads included.
pub fn cpu_seconds(processes: &[u32]) -> f64 {
    let ticks = |id: &u32| cpu_ticks(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?);
    processes.iter().filter_map(ticks).sum::<u64>() as f64 / TICKS_PER_S
}

/// Fields 14 and 15, utime and stime, of /proc/PID/stat; field 2 is a name in parentheses that may hold anything.
pub fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    utime.checked_add(stime)
}

/// How long fdatasync takes after 4 KiB were overwritten, median and 99th percentile, us: the floor under every
/// change with durability "disk".
pub fn fdatasync_us(dir: &Path) -> io::Result<(f64, f64)> {
    let path = dir.join("fdatasync-probe");
    let file = File::create(&path)?;
    file.write_all_at(&vec![1; PROBE_BYTES], 0)?;
    file.sync_all()?;
    let mut took = Vec::with_capacity(PROBE_WRITES);
    for n in 0..PROBE_WRITES {
        let began = Instant::now();
        file.write_all_at(&[2; PROBE_WRITE], (n * PROBE_WRITE % PROBE_BYTES) as u64)?;
        file.sync_data()?;
        took.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    fs::remove_file(&path)?;
    took.sort_unstable();
    Ok((percentile(&took, 50) as f64 / 1e3, percentile(&took, 99) as f64 / 1e3))
}

/// The machine in one line.
pub fn describe(dir: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("CPU unknown", |(_, model)| model.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fs_type = file_system(&mounts, dir).unwrap_or("an unknown file system");
    format!("{cores} cores of {model}, Linux {}, {fs_type}", kernel.trim())
}

/// The type of the file system that a directory is on: the last mount on the longest path (proc_pid_mounts(5)).
pub fn file_system<'a>(mounts: &'a str, dir: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, fs_type) = (fields.next()?, fields.next()?);
        dir.starts_with(path).then_some((path.len(), fs_type))
    });
    mounts.max_by_key(|(len, _)| *len).map(|(_, fs_type)| fs_type)
}
