//! A lane to a server that does what a test wants.

#![expect(clippy::unwrap_used, reason = "a test fails there")]

mod fake_server;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fake_server::{Peer, start, start_noting};
use flexcache_remote::{Error, Kind, Lane, NoSink, Request, Settings, Sink, Value};

const LONG: Duration = Duration::from_secs(30);

fn get(key: &str) -> Request {
    Request::command([b"GET".as_slice(), key.as_bytes()])
}

fn call(lane: &Lane, request: Request, time: Duration) -> Result<Vec<Value>, Error> {
    lane.call(request, Instant::now() + time, || Ok(())).map(|answer| answer.replies)
}

/// Answers every command with its last part.
fn echo(peer: &mut Peer) {
    while let Some(parts) = peer.command() {
        let last = parts.last().unwrap();
        peer.say(&format!("${}\r\n{last}\r\n", last.len()));
    }
}

fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

#[test]
fn what_is_said_at_first() {
    let (settings, said) = start_noting(|_, mut peer, said| {
        said.send(peer.greet(4)).unwrap();
        echo(&mut peer);
    });
    let settings = Settings {
        password: Some("secret".to_owned()),
        name: Some("me".to_owned()),
        database: 3,
        prefixes: vec![b"a:".to_vec(), b"b:".to_vec()],
        ..settings
    };
    assert!(!format!("{settings:?}").contains("secret"));
    let lane = Lane::new(settings, Arc::new(NoSink));
    assert_eq!(call(&lane, get("x"), LONG).unwrap(), [text("x")]);
    let wanted = [
        "HELLO 3 AUTH default secret",
        "CLIENT SETNAME me",
        "SELECT 3",
        "CLIENT TRACKING ON BCAST NOLOOP PREFIX a: PREFIX b:",
    ];
    assert_eq!(said.recv().unwrap(), wanted);
}

#[test]
fn threads_get_their_own_answers() {
    let settings = start(|_, mut peer| {
        peer.greet(1);
        echo(&mut peer);
    });
    let lane = Lane::new(settings, Arc::new(NoSink));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let lane = &lane;
            scope.spawn(move || {
                for round in 0..200 {
                    let key = format!("{thread}-{round}");
                    assert_eq!(call(lane, get(&key), LONG).unwrap(), [text(&key)]);
                }
            });
        }
    });
    assert_eq!(lane.connects(), 1);
}

#[test]
fn several_commands_are_answered_together() {
    let settings = start(|_, mut peer| {
        peer.greet(1);
        echo(&mut peer);
    });
    let lane = Lane::new(settings, Arc::new(NoSink));
    let mut request = Request::new();
    for key in ["a", "b"] {
        request.begin(2);
        request.try_part(b"GET").unwrap();
        request.try_part(key.as_bytes()).unwrap();
    }
    assert_eq!(call(&lane, request, LONG).unwrap(), [text("a"), text("b")]);
    assert_eq!(call(&lane, Request::new(), LONG).unwrap(), []);
}

#[test]
fn a_server_that_is_not_there_was_sent_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let lane = Lane::new(
        Settings::new(flexcache_remote::Address::Tcp("127.0.0.1".into(), port), LONG),
        Arc::new(NoSink),
    );
    let error = call(&lane, get("x"), LONG).unwrap_err();
    assert!(error.kind() == Kind::Lost && !error.may_be_executed(), "{error}");
}

#[test]
fn a_refusal_at_first_says_why() {
    let settings = start(|_, mut peer| {
        peer.command();
        peer.say("-WRONGPASS no\r\n");
        peer.command();
    });
    let lane = Lane::new(settings, Arc::new(NoSink));
    let error = call(&lane, get("x"), LONG).unwrap_err();
    assert!(
        error.kind() == Kind::Refused && !error.may_be_executed() && error.to_string() == "WRONGPASS no",
        "{error}"
    );
}

#[test]
fn a_connection_that_is_lost_leaves_it_open_what_was_done() {
    let settings = start(|number, mut peer| {
        peer.greet(1);
        if number == 0 {
            peer.command();
        } else {
            echo(&mut peer);
        }
    });
    let lane = Lane::new(settings, Arc::new(NoSink));
    let error = call(&lane, get("x"), LONG).unwrap_err();
    assert!(error.kind() == Kind::Lost && error.may_be_executed(), "{error}");
    assert_eq!(call(&lane, get("y"), LONG).unwrap(), [text("y")]);
    assert_eq!(lane.connects(), 2);
}

#[test]
fn answers_that_are_none_end_the_connection() {
    for answer in ["x\r\n", "+early\r\n+twice\r\n"] {
        let (settings, closed) = start_noting(move |number, mut peer, closed| {
            peer.greet(1);
            if number == 0 {
                peer.command();
                peer.say(answer);
                closed.send(peer.command()).unwrap();
            } else {
                echo(&mut peer);
            }
        });
        let lane = Lane::new(settings, Arc::new(NoSink));
        assert_eq!(call(&lane, get("x"), LONG).is_err(), answer.starts_with('x'));
        assert_eq!(closed.recv().unwrap(), None);
        assert_eq!(call(&lane, get("y"), LONG).unwrap(), [text("y")]);
        assert_eq!(lane.connects(), 2);
    }
}

/// A connection on which nothing comes is ended, also by a request that it was made for.
#[test]
fn a_silent_connection_is_ended() {
    let (settings, closed) = start_noting(|number, mut peer, closed| {
        peer.greet(1);
        if number == 0 {
            while peer.command().is_some() {}
            closed.send(()).unwrap();
        } else {
            echo(&mut peer);
        }
    });
    let lane = Lane::new(settings, Arc::new(NoSink));
    let error = call(&lane, get("x"), Duration::from_secs(1)).unwrap_err();
    assert!(error.kind() == Kind::TimedOut && error.may_be_executed(), "{error}");
    closed.recv().unwrap();
    assert_eq!(call(&lane, get("y"), LONG).unwrap(), [text("y")]);
    assert_eq!(lane.connects(), 2);
}

/// A connection on which something comes is kept, and the late reply is nobody's.
#[test]
fn a_late_reply_is_dropped() {
    let settings = start(|_, mut peer| {
        peer.greet(1);
        peer.command();
        peer.say("$4\r\nla");
        peer.command();
        peer.say("te\r\n$1\r\ny\r\n");
        echo(&mut peer);
    });
    let lane = Lane::new(settings, Arc::new(NoSink));
    let error = call(&lane, get("late"), Duration::from_secs(1)).unwrap_err();
    assert!(error.kind() == Kind::TimedOut && error.may_be_executed(), "{error}");
    assert_eq!(call(&lane, get("y"), LONG).unwrap(), [text("y")]);
    assert_eq!(call(&lane, get("z"), LONG).unwrap(), [text("z")]);
    assert_eq!(lane.connects(), 1);
}

#[test]
fn a_caller_may_stop_waiting() {
    let settings = start(|_, mut peer| {
        peer.greet(1);
        peer.command();
        peer.command();
        peer.say("+late\r\n+y\r\n");
        echo(&mut peer);
    });
    let lane = Lane::new(settings, Arc::new(NoSink));
    let error = lane.call(get("x"), Instant::now() + LONG, || Err(())).unwrap_err();
    assert!(error.kind() == Kind::Interrupted && error.may_be_executed());
    assert_eq!(call(&lane, get("y"), LONG).unwrap(), [text("y")]);
}

#[test]
fn a_lane_that_is_disconnected_connects_anew() {
    let settings = start(|_, mut peer| {
        peer.greet(1);
        echo(&mut peer);
    });
    let lane = Lane::new(settings, Arc::new(NoSink));
    for key in ["a", "b"] {
        assert_eq!(call(&lane, get(key), LONG).unwrap(), [text(key)]);
        lane.disconnect();
    }
    assert_eq!(lane.connects(), 2);
}

#[test]
fn a_lane_that_is_closed_sends_nothing() {
    let (settings, closed) = start_noting(|_, mut peer, closed| {
        peer.greet(1);
        echo(&mut peer);
        closed.send(()).unwrap();
    });
    let lane = Lane::new(settings, Arc::new(NoSink));
    call(&lane, get("x"), LONG).unwrap();
    lane.close();
    closed.recv().unwrap();
    assert!(!call(&lane, get("x"), LONG).unwrap_err().may_be_executed());
}

#[derive(Default)]
struct Noting(Mutex<Vec<String>>);

impl Noting {
    fn note(&self, what: String) -> u64 {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(what);
        u64::try_from(notes.len()).unwrap()
    }
}

impl Sink for Noting {
    fn began(&self) {
        self.note("began".to_owned());
    }

    fn pushed(&self, parts: &[Value]) {
        let Some(Value::Bytes(word)) = parts.first() else { panic!("{parts:?}") };
        self.note(String::from_utf8_lossy(word).into_owned());
    }

    fn answered(&self, note: u64, _reply: &Value) -> u64 {
        self.note(format!("answer {note}"))
    }

    fn ended(&self) {
        self.note("ended".to_owned());
    }
}

/// The order in the crate's documentation: also where the caller has given up, and before anybody learns of the end.
#[test]
fn the_order_of_pushes_and_answers() {
    let settings = start(|_, mut peer| {
        peer.greet(1);
        peer.command();
        peer.say(">1\r\n+before\r\n+a\r\n>1\r\n+after\r\n");
        // A caller that gives up, and one that does not.
        peer.command();
        peer.command();
        peer.say("+late\r\n>1\r\n+third\r\n+c\r\n");
        peer.command();
    });
    let sink = Arc::new(Noting::default());
    let lane = Lane::new(settings, Arc::<Noting>::clone(&sink));
    let answer = lane.call(get("a").with_note(1), Instant::now() + LONG, || Ok(())).unwrap();
    assert_eq!(answer.stamp, 3);
    let given_up = lane.call(get("b").with_note(2), Instant::now() + LONG, || Err(()));
    assert_eq!(given_up.unwrap_err().kind(), Kind::Interrupted);
    call(&lane, get("c"), LONG).unwrap();
    call(&lane, get("d").with_note(4), LONG).unwrap_err();
    let notes = sink.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(notes, ["began", "before", "answer 1", "after", "answer 2", "third", "ended"]);
}

/// A panic of a sink is a bug, which must not leave callers waiting.
#[test]
fn a_sink_that_panics_ends_the_connection() {
    struct Panicking;
    impl Sink for Panicking {
        fn answered(&self, _note: u64, _reply: &Value) -> u64 {
            panic!("on purpose")
        }
    }
    let settings = start(|_, mut peer| {
        peer.greet(1);
        echo(&mut peer);
    });
    let lane = Lane::new(settings, Arc::new(Panicking));
    assert_eq!(call(&lane, get("a").with_note(1), LONG).unwrap_err().kind(), Kind::Lost);
    assert_eq!(call(&lane, get("b"), LONG).unwrap(), [text("b")]);
}
