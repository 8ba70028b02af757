//! A lane to a server that does what a test wants.

#![expect(clippy::unwrap_used, reason = "a test fails there")]

mod fake_server;

use std::sync::mpsc::channel;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use fake_server::{Peer, start, start_noting};
use flexcache_remote::{Error, Kind, Lane, Request, Settings, Value};

const LONG: Duration = Duration::from_secs(30);

fn get(key: &str) -> Request {
    Request::command([b"GET".as_slice(), key.as_bytes()])
}

fn call(lane: &Lane, request: Request, time: Duration) -> Result<Vec<Value>, Error> {
    lane.call(request, Instant::now() + time, || Ok(()))
}

/// Makes a call in a thread, and returns when its request is in line, or has failed.
fn call_in_line<'scope>(
    scope: &'scope Scope<'scope, '_>,
    lane: &'scope Lane,
    request: Request,
) -> ScopedJoinHandle<'scope, Result<Vec<Value>, Error>> {
    let (said, is_in_line) = channel();
    let calling = scope.spawn(move || {
        let look = || {
            let _ = said.send(());
            Ok(())
        };
        lane.call(request, Instant::now() + LONG, look)
    });
    let _ = is_in_line.recv();
    calling
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
        said.send(peer.greet(3)).unwrap();
        echo(&mut peer);
    });
    let settings = Settings {
        password: Some("secret".to_owned()),
        name: Some("me".to_owned()),
        database: 3,
        ..settings
    };
    assert!(!format!("{settings:?}").contains("secret"));
    let lane = Lane::new(settings);
    assert_eq!(call(&lane, get("x"), LONG).unwrap(), [text("x")]);
    let wanted = ["HELLO 3 AUTH default secret", "CLIENT SETNAME me", "SELECT 3"];
    assert_eq!(said.recv().unwrap(), wanted);
}

#[test]
fn threads_get_their_own_answers() {
    let settings = start(|_, mut peer| {
        peer.greet(1);
        echo(&mut peer);
    });
    let lane = Lane::new(settings);
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
    let lane = Lane::new(settings);
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
    let lane = Lane::new(Settings::new(flexcache_remote::Address::Tcp("127.0.0.1".into(), port), LONG));
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
    let lane = Lane::new(settings);
    let error = call(&lane, get("x"), LONG).unwrap_err();
    assert!(
        error.kind() == Kind::Refused && !error.may_be_executed() && error.to_string() == "WRONGPASS no",
        "{error}"
    );
}

/// What a server repeats of our own words is not shown.
#[test]
fn a_refusal_has_no_password_in_it() {
    for said in [
        "-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'sec",
        "-ERR secret is no password",
    ] {
        let settings = start(move |_, mut peer| {
            peer.command();
            peer.say(&format!("{said}\r\n"));
            peer.command();
        });
        let lane = Lane::new(Settings { password: Some("secret".to_owned()), ..settings });
        let error = call(&lane, get("x"), LONG).unwrap_err();
        assert!(error.kind() == Kind::Refused && !error.to_string().contains("sec"), "{error}");
    }
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
    let lane = Lane::new(settings);
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
        let lane = Lane::new(settings);
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
    let lane = Lane::new(settings);
    let error = call(&lane, get("x"), Duration::from_secs(1)).unwrap_err();
    assert!(error.kind() == Kind::TimedOut && error.may_be_executed(), "{error}");
    closed.recv().unwrap();
    assert_eq!(call(&lane, get("y"), LONG).unwrap(), [text("y")]);
    assert_eq!(lane.connects(), 2);
}

/// A caller that came while an attempt to connect was under way does not fail with it.
#[test]
fn an_attempt_that_times_out_fails_nobody_who_has_time_left() {
    let settings = start(|number, mut peer| {
        if number == 0 {
            while peer.command().is_some() {}
        } else {
            peer.greet(1);
            echo(&mut peer);
        }
    });
    let lane = Lane::new(Settings { timeout: Duration::from_millis(100), ..settings });
    let error = call(&lane, get("w"), Duration::from_millis(10)).unwrap_err();
    assert!(error.kind() == Kind::TimedOut && !error.may_be_executed(), "{error}");
    assert_eq!(call(&lane, get("x"), LONG).unwrap(), [text("x")]);
    assert_eq!(lane.connects(), 1);
}

/// A server that greets when it is told, and notes what it is asked for.
fn start_greeting_late() -> (Settings, std::sync::mpsc::Receiver<String>, std::sync::mpsc::Sender<()>) {
    let (go, told) = channel();
    let told = std::sync::Mutex::new(told);
    let (settings, asked) = start_noting(move |_, mut peer, asked| {
        told.lock().unwrap().recv().unwrap();
        peer.greet(1);
        while let Some(parts) = peer.command() {
            asked.send(parts[1].clone()).unwrap();
            peer.say("+OK\r\n");
        }
    });
    (settings, asked, go)
}

fn assert_not_sent(answer: Result<Vec<Value>, Error>, kind: Kind) {
    let error = answer.unwrap_err();
    assert!(error.kind() == kind && !error.may_be_executed(), "{error}");
}

/// A request whose time has passed when there is a connection is not sent, and its caller learns so.
#[test]
fn what_is_late_before_there_is_a_connection_is_not_sent() {
    let (settings, asked, go) = start_greeting_late();
    let lane = Lane::new(settings);
    assert_not_sent(call(&lane, get("late"), Duration::from_millis(1)), Kind::TimedOut);
    go.send(()).unwrap();
    call(&lane, get("x"), LONG).unwrap();
    assert_eq!(asked.recv().unwrap(), "x");
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
    let lane = Lane::new(settings);
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
    let lane = Lane::new(settings);
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
    let lane = Lane::new(settings);
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
    let lane = Lane::new(settings);
    call(&lane, get("x"), LONG).unwrap();
    lane.close();
    closed.recv().unwrap();
    assert!(!call(&lane, get("x"), LONG).unwrap_err().may_be_executed());
}

/// A value of so many bytes that a server which does not read holds up its writer.
fn put_large() -> Request {
    let value = vec![b'x'; 64 << 20];
    Request::command([b"SET".as_slice(), b"large", &value])
}

/// A server whose first connections read the beginning of a large value, say "large", and go when they are told. Later
/// ones say what they are asked for.
fn start_reading_little(
    connections: usize,
    answer: &'static str,
) -> (Settings, std::sync::mpsc::Receiver<String>, std::sync::mpsc::Sender<()>) {
    let (go, told) = channel();
    let told = std::sync::Mutex::new(told);
    let (settings, began) = start_noting(move |number, mut peer, began| {
        peer.greet(1);
        if number < connections {
            let mut buffer = [0; 4096];
            std::io::Read::read_exact(&mut peer.stream, &mut buffer).unwrap();
            began.send("large".to_owned()).unwrap();
            told.lock().unwrap().recv().unwrap();
            peer.say(answer);
        } else {
            while let Some(parts) = peer.command() {
                let last = parts.last().unwrap();
                let _ = began.send(last.clone());
                peer.say(&format!("${}\r\n{last}\r\n", last.len()));
            }
        }
    });
    (settings, began, go)
}

/// A request of which no byte was sent is sent again, and of one that was begun the caller learns so.
#[test]
fn what_was_not_sent_is_sent_on_the_next_connection() {
    let (settings, began, go) = start_reading_little(1, "");
    let lane = Lane::new(settings);
    std::thread::scope(|scope| {
        let large = scope.spawn(|| call(&lane, put_large(), LONG));
        began.recv().unwrap();
        let others = ["a", "b"].map(|key| (text(key), call_in_line(scope, &lane, get(key))));
        go.send(()).unwrap();
        assert!(large.join().unwrap().unwrap_err().may_be_executed());
        for (wanted, other) in others {
            assert_eq!(other.join().unwrap().unwrap(), [wanted]);
        }
    });
    assert_eq!(lane.connects(), 2);
}

/// A request that was not sent, and is late when its connection ends, is not sent again.
#[test]
fn what_was_not_sent_in_time_is_not_sent_again() {
    let (settings, began, go) = start_reading_little(1, "");
    let lane = Lane::new(settings);
    std::thread::scope(|scope| {
        let large = scope.spawn(|| call(&lane, put_large(), LONG));
        began.recv().unwrap();
        let error = call(&lane, get("late"), Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), Kind::TimedOut);
        go.send(()).unwrap();
        assert!(large.join().unwrap().unwrap_err().may_be_executed());
    });
    assert_eq!(call(&lane, get("x"), LONG).unwrap(), [text("x")]);
    assert_eq!(began.recv().unwrap(), "x");
}

/// A request of which no byte was sent on two connections is not sent on a third one.
#[test]
fn what_was_not_sent_twice_is_given_up() {
    let (settings, began, go) = start_reading_little(2, "");
    let lane = Lane::new(settings);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| call(&lane, put_large(), LONG));
        began.recv().unwrap();
        let second = call_in_line(scope, &lane, put_large());
        let small = call_in_line(scope, &lane, get("a"));
        go.send(()).unwrap();
        assert!(first.join().unwrap().unwrap_err().may_be_executed());
        began.recv().unwrap();
        go.send(()).unwrap();
        assert!(second.join().unwrap().unwrap_err().may_be_executed());
        assert_not_sent(small.join().unwrap(), Kind::Lost);
    });
    assert_eq!(call(&lane, get("x"), LONG).unwrap(), [text("x")]);
    assert_eq!(lane.connects(), 3);
}

/// Answers to requests that were told of the end of their connection are not taken for those of others.
#[test]
fn a_reply_after_the_end_is_nobodys() {
    let (settings, began, go) = start_reading_little(1, "+late\r\n+later\r\n");
    let lane = Lane::new(settings);
    std::thread::scope(|scope| {
        let large = scope.spawn(|| call(&lane, put_large(), LONG));
        began.recv().unwrap();
        let small = scope.spawn(|| call(&lane, get("a"), LONG));
        lane.disconnect();
        go.send(()).unwrap();
        large.join().unwrap().unwrap_err();
        assert_eq!(small.join().unwrap().unwrap(), [text("a")]);
    });
}

/// Others have another connection, and what was asked before is answered.
#[test]
fn a_lane_that_is_renewed_connects_anew() {
    let (asked, told) = channel();
    let told = std::sync::Mutex::new(told);
    let (settings, began) = start_noting(move |number, mut peer, began| {
        peer.greet(1);
        if number == 0 {
            peer.command();
            began.send(true).unwrap();
            told.lock().unwrap().recv().unwrap();
            peer.say("+old\r\n");
            began.send(peer.command().is_some()).unwrap();
        } else {
            echo(&mut peer);
        }
    });
    let lane = Lane::new(settings);
    std::thread::scope(|scope| {
        let old = scope.spawn(|| call(&lane, get("a"), LONG));
        began.recv().unwrap();
        lane.renew();
        asked.send(()).unwrap();
        assert_eq!(old.join().unwrap().unwrap(), [text("old")]);
    });
    // It ends when it has answered.
    assert!(!began.recv().unwrap());
    assert_eq!(call(&lane, get("b"), LONG).unwrap(), [text("b")]);
    lane.renew();
    assert_eq!(call(&lane, get("c"), LONG).unwrap(), [text("c")]);
    assert_eq!(lane.connects(), 3);
}

/// A caller that reads for others while it waits may stop waiting.
#[test]
fn a_caller_that_leaves_has_others_read() {
    let (go, told) = channel();
    let told = std::sync::Mutex::new(told);
    let settings = start(move |_, mut peer| {
        peer.greet(1);
        for _ in 0..3 {
            peer.command();
        }
        told.lock().unwrap().recv().unwrap();
        peer.say("+a\r\n+b\r\n+c\r\n");
        echo(&mut peer);
    });
    let lane = Lane::new(settings);
    std::thread::scope(|scope| {
        let left = lane.call(get("a"), Instant::now() + LONG, || Err(()));
        assert_eq!(left.unwrap_err().kind(), Kind::Interrupted);
        let others = ["b", "c"].map(|key| (text(key), call_in_line(scope, &lane, get(key))));
        go.send(()).unwrap();
        for (wanted, other) in others {
            assert_eq!(other.join().unwrap().unwrap(), [wanted]);
        }
    });
    assert_eq!(call(&lane, get("d"), LONG).unwrap(), [text("d")]);
}
