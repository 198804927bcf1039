//! Goal: an administrator finds in the history what happened, in order, also after a restart, and `--follow`
//! shows what comes; the one who reports an event never waits. Method: the real store in a temporary
//! directory; the writer is waited for by what it writes, not by time.

use std::time::Duration;

use tokio_stream::StreamExt;

use super::{EVENTS_MAX, Event, Events, EventsRequest, Level, Message, readable};

fn texts(events: &[Event]) -> Vec<&str> {
    events.iter().map(|e| e.text.as_str()).collect()
}

#[test]
fn events_are_there_in_order_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let events = Events::open(&path).unwrap();
    events.append(Level::Info, "", "started");
    events.append(Level::Warning, "/export", "runs solo: node a is down");
    drop(events);

    let events = Events::open(&path).unwrap();
    events.append(Level::Error, "/export", "stopped");
    drop(events);

    let events = Events::open(&path).unwrap();
    let all = events.newest(10);
    assert_eq!(texts(&all), ["started", "runs solo: node a is down", "stopped"]);
    assert_eq!(all.iter().map(|e| e.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((all[1].level.as_str(), all[1].export.as_str()), ("warning", "/export"));
    assert!(all[0].at_ns > 0 && all[0].at_ns <= all[2].at_ns);
    assert_eq!(texts(&events.newest(2)), ["runs solo: node a is down", "stopped"]);
    assert_eq!(texts(&events.after(2, 10)), ["stopped"]);
    assert_eq!(texts(&events.after(u64::MAX, 10)), [""; 0]);
}

#[test]
fn reading_ends_at_a_damaged_page() {
    let event = Event { text: "readable".to_owned(), ..Event::default() };
    let good = [Ok((b"1".into(), event.encode_to_vec().into())), Ok((b"2".into(), b"\xff".into()))];
    let mut asked = 0;
    let again_and_again = std::iter::repeat_with(|| {
        asked += 1;
        Err(sled::Error::Unsupported("a damaged page".to_owned()))
    });
    let read: Vec<Event> = readable(good.into_iter().chain(again_and_again.take(1000))).collect();
    assert_eq!((texts(&read), asked), (vec!["readable"], 1));
}

#[test]
fn only_the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let extra = 25;
    let mut written = 0;
    while written < EVENTS_MAX + extra {
        let events = Events::open(&path).unwrap();
        // Less than the queue holds, so that none is dropped.
        for _ in 0..1000.min(EVENTS_MAX + extra - written) {
            written += 1;
            events.append(Level::Info, "", format!("{written}"));
        }
    }
    let events = Events::open(&path).unwrap();
    let all = events.after(0, usize::MAX);
    assert_eq!(all.len() as u64, EVENTS_MAX);
    assert_eq!(all[0].text, format!("{}", extra + 1));
    assert_eq!(all[0].id, extra + 1, "ids go on rising");
}

#[tokio::test]
async fn a_follower_gets_the_old_and_the_new() {
    let dir = tempfile::tempdir().unwrap();
    let events = Events::open(&dir.path().join("events")).unwrap();
    events.append(Level::Info, "", "old");
    let mut stream = events.follow(0);
    let mut next =
        async || tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap().unwrap();
    assert_eq!(next().await.text, "old");
    for i in 0..500 {
        events.append(Level::Info, "", format!("{i}"));
    }
    for i in 0..500 {
        let event = next().await;
        assert_eq!((event.text, event.id), (format!("{i}"), i + 2));
    }
}

/// The admin interface's request: the newest few, then what comes.
#[tokio::test]
async fn following_begins_with_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let events = Events::open(&path).unwrap();
    (0..10).for_each(|i| events.append(Level::Info, "", format!("{i}")));
    drop(events);
    let events = Events::open(&path).unwrap();
    let once = events.answer(&EventsRequest { follow: false, after: 0, limit: 3 });
    let once: Vec<Event> = once.collect().await;
    assert_eq!(texts(&once), ["7", "8", "9"]);
    let mut on = events.answer(&EventsRequest { follow: true, after: 0, limit: 2 });
    events.append(Level::Info, "", "new");
    let mut got = Vec::new();
    while got.len() < 3 {
        got.push(tokio::time::timeout(Duration::from_secs(10), on.next()).await.unwrap().unwrap());
    }
    assert_eq!(texts(&got), ["8", "9", "new"]);
}

/// A follower that stops reading must not stop the history: the writer goes on past sled's own queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_does_not_read_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let events = Events::open(&path).unwrap();
    let _stuck = events.follow(0);
    for round in 0..4 {
        for i in 0..900 {
            events.append(Level::Info, "", format!("{round}/{i}"));
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while events.newest(1).first().is_none_or(|e| e.text != format!("{round}/899")) {
            assert!(std::time::Instant::now() < deadline, "the writer hangs in round {round}");
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(events.after(0, usize::MAX).len(), 3600, "and nothing is missing");
}

/// A power cut may leave a history that sled refuses; the node has to start nevertheless.
#[test]
fn a_damaged_history_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let events = Events::open(&path).unwrap();
    events.append(Level::Info, "", "lost");
    drop(events);
    std::fs::write(path.join("conf"), "segment_size: rubbish").unwrap();

    let events = Events::open(&path).unwrap();
    assert!(events.newest(1).is_empty());
    let names: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().any(|n| n.starts_with("events.damaged-")), "{names:?}");
}

#[test]
fn a_text_without_end_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let events = Events::open(&path).unwrap();
    events.append(Level::Info, "", "ä".repeat(5000));
    drop(events);
    let kept = Events::open(&path).unwrap().newest(1).remove(0).text;
    assert_eq!(kept, "ä".repeat(1024));
}
