//! A session table that forgets idle users and keeps its memory bounded.
//!
//! `cargo run -p flexcache-core --example sessions`

use std::time::Duration;

use flexcache_core::{Cache, Cause, Error, ManualClock, policy::Lru};

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Error> {
    let clock = ManualClock::default();
    let mut sessions = Cache::<u32, String, Lru>::builder()
        .max_weight(20)
        .weigher(|_, name| name.len() as u64)
        .default_ttl(Duration::from_secs(1800))
        .on_removal(|left| {
            if left.cause != Cause::Replaced {
                println!("  {} left: {:?}", left.value, left.cause);
            }
        })
        .clock(&clock)
        .build();

    for (user, name) in [(1, "ada"), (2, "grace"), (3, "katherine"), (4, "margaret")] {
        println!("{name} signs in");
        sessions.put(user, name.to_owned())?;
    }
    println!("half an hour later");
    clock.advance(Duration::from_secs(1800));
    sessions.expire();
    println!("{} sessions, {:?}", sessions.len(), sessions.stats());
    Ok(())
}
