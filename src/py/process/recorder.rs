//! `record=`: writes the keys that are looked up to a trace, which `replay` reads.
//!
//! The cache only writes hashes to a buffer. A thread of the recorder formats and compresses full buffers. If
//! it falls behind, buffers are dropped, so that the cache is not slowed down. Recording ends after a given
//! number of lookups.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use flate2::Compression;
use flate2::write::GzEncoder;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use super::at_exit::AtExit;
use super::background::generation;
use super::logging;
use super::mutex::Mutex;

/// Notes in a buffer.
const BUFFER: usize = 1 << 15;

/// Buffers that may wait for the thread.
const WAITING: usize = 8;

/// The number of sizes that the thread remembers, for lookups that are hits.
const SIZES: usize = 1 << 20;

/// An event of the key with a hash.
#[derive(Clone, Copy, Debug)]
enum Note {
    LookedUp(u64),
    Sized(u64, u64),
}

/// Writes a trace.
pub(crate) struct Recorder {
    path: PathBuf,
    /// The process it is of: a fork's child has no thread.
    generation: u64,
    state: Mutex<State>,
    thread: Mutex<Option<JoinHandle<std::io::Result<()>>>>,
}

struct State {
    notes: Vec<Note>,
    /// The number of lookups that may still be recorded; `None` for any number.
    left: Option<u64>,
    dropped: u64,
    /// The channel to the thread; `None` when recording has ended.
    full: Option<SyncSender<Vec<Note>>>,
}

/// All recorders, for the end of the program.
static RECORDERS: Mutex<Vec<Weak<Recorder>>> = Mutex::new(Vec::new());
static FINISHED: AtExit = AtExit::new();

/// The exception that Python's own `open` raises, which names the path.
fn cannot_create(py: Python<'_>, path: &Path, error: std::io::Error) -> PyErr {
    let Some(number) = error.raw_os_error() else { return error.into() };
    let message = py.import("os").and_then(|os| os.call_method1("strerror", (number,)));
    match message.and_then(|message| message.extract::<String>()) {
        Ok(message) => PyOSError::new_err((number, message, path.as_os_str().to_owned())),
        Err(_) => error.into(),
    }
}

impl Recorder {
    /// Begins a trace in a new file, of at most `most` lookups (0: any number). It has sizes if the cache has
    /// sizes.
    pub(crate) fn start(py: Python<'_>, path: PathBuf, most: u64, sized: bool) -> PyResult<Arc<Self>> {
        let file = File::create(&path).map_err(|error| cannot_create(py, &path, error))?;
        let (full, notes) = sync_channel(WAITING);
        let compressed = path.extension().is_some_and(|extension| extension == "gz");
        let thread = thread::Builder::new().name("flexcache-record".into()).spawn(move || {
            let file = BufWriter::new(file);
            if compressed {
                let mut encoder = GzEncoder::new(file, Compression::fast());
                write_all(&notes, sized, &mut encoder)?;
                encoder.finish()?.flush()
            } else {
                let mut file = file;
                write_all(&notes, sized, &mut file)?;
                file.flush()
            }
        })?;
        let recorder = Arc::new(Self {
            path,
            generation: generation(),
            state: Mutex::new(State {
                notes: Vec::new(),
                left: (most > 0).then_some(most),
                dropped: 0,
                full: Some(full),
            }),
            thread: Mutex::new(Some(thread)),
        });
        Self::remember(&recorder);
        FINISHED.call(py, |py| {
            finish_all(py);
            Ok(())
        })?;
        Ok(recorder)
    }

    /// Adds a recorder to the list.
    fn remember(recorder: &Arc<Self>) {
        let mut recorders = RECORDERS.lock();
        recorders.retain(|recorder| recorder.strong_count() > 0);
        recorders.push(Arc::downgrade(recorder));
    }

    /// A key was looked up.
    pub(crate) fn looked_up(&self, hash: u64) {
        self.note(Note::LookedUp(hash));
    }

    /// An entry of this size was stored.
    pub(crate) fn stored(&self, hash: u64, size: u64) {
        self.note(Note::Sized(hash, size));
    }

    fn note(&self, note: Note) {
        if self.generation != generation() {
            return;
        }
        // Nothing waits under this lock, and no Python runs: threads with it never lose the GIL.
        let mut state = self.state.lock();
        if state.full.is_none() {
            return;
        }
        if state.notes.capacity() == 0 && state.notes.try_reserve_exact(BUFFER).is_err() {
            state.dropped += 1;
            return;
        }
        state.notes.push(note);
        let mut full = state.notes.len() >= BUFFER;
        if let Note::LookedUp(_) = note {
            state.left = state.left.map(|left| left - 1);
            full |= state.left == Some(0);
        }
        if full {
            let notes = std::mem::take(&mut state.notes);
            if let Some(Err(TrySendError::Full(notes))) = state.full.as_ref().map(|full| full.try_send(notes))
            {
                state.dropped += notes.len() as u64;
            }
            if state.left == Some(0) {
                state.full = None;
            }
        }
    }

    /// Ends the trace. When this returns, everything recorded is in the file.
    pub(crate) fn finish(&self, py: Python<'_>) {
        if self.generation != generation() {
            return;
        }
        let (notes, full, dropped) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.notes), state.full.take(), std::mem::take(&mut state.dropped))
        };
        let thread = self.thread.lock().take();
        let ended = py.detach(|| {
            if let Some(full) = full {
                // The thread ends when nobody can send any more.
                let _ = full.send(notes);
            }
            thread.map(JoinHandle::join)
        });
        let path = self.path.display();
        match ended {
            Some(Ok(Err(error))) => logging::error(py, &format_args!("recording to {path} failed: {error}")),
            Some(Err(_)) => logging::error(py, &format_args!("recording to {path} failed")),
            Some(Ok(Ok(()))) if dropped > 0 => logging::error(
                py,
                &format_args!(
                    "{dropped} notes are missing in {path}, which came faster than they could be written"
                ),
            ),
            _ => {}
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // The cache was not closed. The thread writes what it has got, and ends by itself.
        let state = self.state.get_mut();
        if let Some(full) = state.full.take().filter(|_| self.generation == generation()) {
            let _ = full.try_send(std::mem::take(&mut state.notes));
        }
    }
}

fn finish_all(py: Python<'_>) {
    let recorders: Vec<_> = RECORDERS.lock().iter().filter_map(Weak::upgrade).collect();
    for recorder in recorders {
        recorder.finish(py);
    }
}

/// Writes a line for each lookup until there are no more.
fn write_all(buffers: &Receiver<Vec<Note>>, sized: bool, file: &mut impl Write) -> std::io::Result<()> {
    let mut known = HashMap::new();
    for notes in buffers {
        // The size of a key that was missed is recorded a moment later.
        for note in &notes {
            if let Note::Sized(hash, size) = *note {
                // Without memory for more sizes, the known ones are forgotten.
                if known.len() >= SIZES || known.try_reserve(1).is_err() {
                    known.clear();
                }
                if known.capacity() > 0 {
                    known.insert(hash, size);
                }
            }
        }
        for note in notes {
            match note {
                Note::LookedUp(hash) if sized => {
                    writeln!(file, "{hash:016x} {}", known.get(&hash).copied().unwrap_or(1))?;
                }
                Note::LookedUp(hash) => writeln!(file, "{hash:016x}")?,
                Note::Sized(..) => {}
            }
        }
    }
    Ok(())
}
