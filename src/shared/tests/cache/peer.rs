//! Other processes: this very program, started anew to run the one ignored test below.

use std::io::{BufRead, BufReader, Write};
#[cfg(unix)]
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use flexcache_shared::{Error, Lease, Patience};

use crate::support::{Random, entry, key, marked, open, put, small};

/// A process that does as it is told, one line a command. Dropping it kills it.
pub(crate) struct Peer {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts one that has the cache open.
    pub(crate) fn new(cache: &Path) -> Self {
        Self::with(cache, "open")
    }

    /// Starts one whose first command is another.
    pub(crate) fn with(cache: &Path, first: &str) -> Self {
        let mut peer = Self::silent(cache, first);
        assert_eq!(peer.answer(), "ready");
        peer
    }

    /// Starts one that may not get as far as to answer.
    pub(crate) fn silent(cache: &Path, first: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a program"))
            .args(["--exact", "peer::peer", "--ignored", "--nocapture", "--test-threads=1"])
            .env("FLEXCACHE_PEER", cache)
            .env("FLEXCACHE_PEER_FIRST", first)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let commands = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, commands, answers }
    }

    /// Sends a command, without waiting for its end.
    pub(crate) fn tell(&mut self, command: &str) {
        // A peer that has died does not read it, which its caller finds out.
        let _ = writeln!(self.commands, "{command}");
    }

    /// Waits for the next answer. A process that is dead gives none.
    pub(crate) fn answer(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            if self.answers.read_line(&mut line).expect("a pipe") == 0 {
                return "dead".into();
            }
            if let Some((_, answer)) = line.trim().split_once("peer: ") {
                return answer.into();
            }
        }
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
        assert!(status.expect("`kill` is there").success());
    }

    #[cfg(unix)]
    /// The state in /proc: R, S, T, Z.
    pub(crate) fn state(&self) -> char {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        text.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next()).unwrap_or('X')
    }

    #[cfg(unix)]
    /// Waits until it has ended. Returns the signal that ended it.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.child.wait().expect("a child of ours").signal()
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn say(answer: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "peer: {answer}").and_then(|()| out.flush()).expect("the test reads it");
}

#[test]
#[ignore = "other tests start it"]
#[expect(clippy::too_many_lines, reason = "a list of commands")]
fn peer() {
    let Some(path) = std::env::var_os("FLEXCACHE_PEER") else { return };
    let path = Path::new(&path);
    let first = std::env::var("FLEXCACHE_PEER_FIRST").expect("set with it");
    let mut words = first.split(' ');
    let first = words.next();
    let numbers: Vec<u32> = words.map(|word| word.parse().expect("a number")).collect();
    if first == Some("create-and-die") {
        #[cfg(feature = "stall-points")]
        flexcache_shared::stall::arm(numbers[0], 0, false);
        let options = flexcache_shared::Options { named_files_only: numbers[1] == 1, ..small() };
        drop(open(path, &options));
        return say("lived");
    }
    if first == Some("error-of-open") {
        let location = flexcache_shared::Location::Path(path.to_owned());
        // Somewhat larger than a file system of 256 KiB.
        let options = flexcache_shared::Options { max_bytes: 400 << 10, ..small() };
        let opened = flexcache_shared::SharedCache::open(&location, options);
        return say(&opened.err().map_or_else(|| "opened".into(), |error| error.to_string()));
    }
    #[cfg(unix)]
    if first == Some("bus-error") {
        return crate::lost_files::bus_error(path, numbers[0], numbers[1] == 1, say);
    }
    let cache = open(path, &small());
    say("ready");
    let mut token = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a pipe");
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        match words[0] {
            #[cfg(feature = "stall-points")]
            "arm" => {
                flexcache_shared::stall::arm(number(1) as u32, number(2) as u32, number(3) == 1);
                say("armed");
            }
            // Puts marked values until it is killed: seed, keys, the most words.
            "churn" => {
                let mut random = Random(number(1));
                let (keys, most) = (number(2), number(3));
                for count in 1.. {
                    let name = random.below(keys);
                    let value = marked(name, count, 3 + random.below(most) as usize);
                    put(&cache, &name.to_le_bytes(), &value);
                    if count == 1 {
                        say("churning");
                    }
                }
            }
            // Puts, deletes and counts until it is killed, and goes on whatever becomes of it.
            "mix" => {
                let mut random = Random(number(1));
                let keys = number(2);
                say("mixing");
                for count in 1.. {
                    let name = random.below(keys);
                    let bytes = name.to_le_bytes();
                    let value = marked(name, count, 3 + random.below(300) as usize);
                    let outcome = match random.below(12) {
                        0 => cache.delete(key(&bytes), Patience::Wait).map(|_| ()),
                        1 => cache.touch(key(&bytes), 0, Patience::Wait).map(|_| ()),
                        2 => cache.increment(key(&[9, bytes[0]]), 1, 0, 0, Patience::Wait).map(|_| ()),
                        3 if random.below(50) == 0 => cache.clear(Patience::Wait).map(|_| ()),
                        _ => cache.put(key(&bytes), &entry(&value), Patience::Wait).map(|_| ()),
                    };
                    outcome.expect("the lock is free in time");
                }
            }
            // Uses the cache until it is killed, whatever becomes of the file.
            #[cfg(unix)]
            "survive" => {
                say("surviving");
                crate::lost_files::use_while(&cache, number(1), || true);
            }
            "put" => say(&put(&cache, words[1].as_bytes(), words[2].as_bytes()).to_string()),
            "add-some" => {
                for _ in 0..number(1) {
                    // Where the machine is busy, the others may be faster for as long as a call waits.
                    while let Err(error) = cache.increment(key(b"sum"), 1, 0, 0, Patience::Wait) {
                        assert!(matches!(error, Error::Timeout { .. }), "{error}");
                    }
                }
                say(words[1]);
            }
            "lease" => {
                let time = Duration::from_millis(number(2));
                match cache.lease(key(words[1].as_bytes()), time, false, Patience::Wait).expect("a call") {
                    Lease::Got(got) => {
                        token = Some(got);
                        say("got");
                    }
                    Lease::Value => say("value"),
                    Lease::Taken { .. } => say("taken"),
                }
            }
            "fill" => {
                let token = token.as_ref().expect("a lease");
                let filled =
                    cache.fill(key(words[1].as_bytes()), token, &entry(words[2].as_bytes()), Patience::Wait);
                say(&filled.expect("a call").result.to_string());
            }
            "evict" => {
                cache.evict_tag(words[1].as_bytes(), Patience::Wait).expect("a call");
                say("evicted");
            }
            "clear" => say(&cache.clear(Patience::Wait).expect("a call").to_string()),
            "delete" => {
                let deleted = cache.delete(key(words[1].as_bytes()), Patience::Wait).expect("a call");
                say(&deleted.result.to_string());
            }
            other => panic!("no such command: {other}"),
        }
    }
}
