//! What the process itself used, from the files in which the kernel says so.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

use crate::demo::proc_figure;

/// Ticks of processor time in a second, as the kernel shows them to programs on every platform we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time by kind of thread, in seconds.
pub(super) type ByThread = BTreeMap<String, f64>;

/// What was used up to an instant.
#[derive(Debug, Clone, Default)]
pub(super) struct Used {
    threads: ByThread,
    written_bytes: u64,
}

/// What was used between two instants.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Processor seconds, of all delegates together.
    pub cpu_s: f64,
    /// The same for each kind of thread: `engine` decides and stores, `intake` checks signatures, the runtime's workers are
    /// the network.
    pub cpu_s_by_thread: ByThread,
    /// Bytes given to the disk.
    pub written_bytes: u64,
}

impl Used {
    /// Until now.
    pub(super) fn now() -> Self {
        let written_bytes = proc_figure("/proc/self/io", "write_bytes:").unwrap_or(0);
        Self { threads: threads(), written_bytes }
    }

    /// From then until now. A thread that ended meanwhile is missing in it.
    pub(super) fn since(&self) -> Usage {
        let now = Self::now();
        let mut by_thread = ByThread::new();
        for (thread, ended) in &now.threads {
            let began = self.threads.get(thread).copied().unwrap_or(0.0);
            *by_thread.entry(kind_of(thread)).or_default() += (ended - began).max(0.0);
        }
        let cents = |seconds: f64| (seconds * 100.0).round() / 100.0;
        by_thread.values_mut().for_each(|seconds| *seconds = cents(*seconds));
        Usage {
            cpu_s: cents(by_thread.values().sum()),
            cpu_s_by_thread: by_thread,
            written_bytes: now.written_bytes.saturating_sub(self.written_bytes),
        }
    }
}

/// Processor seconds of each thread, by id and name.
fn threads() -> ByThread {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return ByThread::new() };
    let of_task = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("stat")).ok()?;
        let (head, tail) = text.rsplit_once(')')?;
        let (id, name) = head.split_once(" (")?;
        // User and system time are the 14th and 15th field; the state after the name is the third.
        let ticks: f64 =
            tail.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<f64>().ok()).sum();
        Some((format!("{id} {name}"), ticks / TICKS_PER_SECOND))
    };
    tasks.flatten().filter_map(|task| of_task(task.path())).collect()
}

/// `1234 engine-d0` is an `engine`.
fn kind_of(thread: &str) -> String {
    let name = thread.split_once(' ').map_or(thread, |(_, name)| name);
    let kind = name.split_once('-').map_or(name, |(kind, _)| kind);
    kind.to_owned()
}

/// Memory in use now, in bytes.
pub(super) fn rss_bytes() -> Option<u64> {
    proc_figure("/proc/self/status", "VmRSS:").map(|kib| kib * 1024)
}

/// The most memory that was in use, in bytes.
pub(super) fn peak_rss_bytes() -> Option<u64> {
    proc_figure("/proc/self/status", "VmHWM:").map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_counted_by_kind_of_thread() {
        let before = Used::now();
        let work = std::thread::Builder::new().name("engine-d7".to_owned());
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = work
            .spawn(move || {
                let start = std::time::Instant::now();
                while start.elapsed() < std::time::Duration::from_millis(200) {
                    std::hint::black_box(0);
                }
                // Still there when it is looked at.
                wait.recv()
            })
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(400));
        let usage = before.since();
        drop(done);
        thread.join().unwrap().unwrap_err();
        assert!(usage.cpu_s_by_thread.get("engine").is_some_and(|seconds| *seconds > 0.0), "{usage:?}");
        assert!(usage.cpu_s >= usage.cpu_s_by_thread["engine"]);
    }
}
