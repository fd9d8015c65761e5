//! Offers, leases, settles, commits: what every store has to do.

use super::*;

#[tokio::test]
async fn an_empty_run_closes_with_a_header_and_a_zero_account() {
    let bed = Bed::new(SinkFormat::Csv, Codec::Plain);
    let (store, opened) = bed.open();
    assert!(!opened.resumed);
    columns(&store).await;
    assert_eq!(store.close(Some(0)).await.unwrap(), crate::events::Account::default());
    assert_eq!(bed.text("results"), "id,title,_row,_url\n");
    assert_eq!(bed.text("skipped"), "id,_row,_url,reason,class,status,message,attempts,next_at,first_row\n");
    let (store, opened) = bed.open();
    assert_eq!((opened.resumed, opened.finished, opened.columns), (true, Some(0), Some(vec!["id".to_owned()])));
    store.close(Some(0)).await.unwrap();
    assert_eq!(bed.text("results"), "id,title,_row,_url\n");
    bed.verified();
}

#[tokio::test]
async fn every_input_ends_once_in_every_format_and_codec() {
    for format in [SinkFormat::Jsonl, SinkFormat::Csv] {
        for codec in [Codec::Plain, Codec::Gzip, Codec::Zstd] {
            let bed = Bed::new(format, codec);
            let (store, _) = bed.open();
            let encoder = columns(&store).await;
            let mut offers = seeds(30);
            offers.push(seed(31, "http://h1/p1"));
            offers.push(bad(32, "list.txt:32: no address"));
            let offered = store.offer(offers, mark("{\"row\":32}", true)).await.unwrap();
            assert!(matches!(offered[29], Offered::New(None)));
            assert!(matches!(offered[30], Offered::Known { first_row: 1, .. }));
            assert!(matches!(offered[31], Offered::Bad));
            let leases = lease_all(&store).await;
            assert_eq!(leases.len(), 30);
            let batch = leases.iter().map(|l| if l.row % 10 == 0 { skip(&encoder, l, Reason::Http(404)) } else { result(&encoder, l) });
            store.settle(batch.collect()).await.unwrap();
            let account = store.close(Some(1)).await.unwrap();
            assert_eq!(account.to_string(), "inputs 32 + discovered 0 = 27 results + 5 skipped + 0 pending");
            assert!(account.closes());
            assert_eq!((account.rows, account.duplicates), (27, 1));
            let headers = usize::from(format == SinkFormat::Csv);
            assert_eq!(bed.text("results").lines().count(), 27 + headers);
            assert_eq!(bed.text("skipped").lines().count(), 5 + headers);
            bed.verified();
            let (store, opened) = bed.open();
            assert_eq!(opened.by_reason, [("bad-input".into(), 1), ("duplicate".into(), 1), ("http-404".into(), 3)].into());
            assert_eq!((opened.account, opened.finished), (account, Some(1)));
            assert_eq!(opened.input, Some(InputMark { position: "{\"row\":32}".into(), done: true }));
            assert!(store.lease(want(9, 9)).await.unwrap().drained);
            store.close(None).await.unwrap();
        }
    }
}

#[tokio::test]
async fn duplicates_name_the_first_row_and_keep_their_columns() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    columns(&store).await;
    store.offer(vec![seed(1, "http://h/a"), seed(2, "http://h/b"), seed(3, "http://h/b")], None).await.unwrap();
    store.commit().await.unwrap();
    let line: Value = serde_json::from_str(&bed.text("skipped")).unwrap();
    assert_eq!((&line["id"], &line["_row"], &line["reason"], &line["first_row"]), (&3.into(), &3.into(), &"duplicate".into(), &2.into()));
    assert_eq!(line["class"], "input");
}

#[tokio::test]
async fn duplicates_are_fetched_where_the_job_says_so() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let mut again = seed(2, "http://h/a");
    again.body.as_mut().unwrap().fetch_duplicates = true;
    store.offer(vec![seed(1, "http://h/a"), again], None).await.unwrap();
    assert_eq!(lease_all(&store).await.len(), 2);
}

#[tokio::test]
async fn an_offer_hands_the_lease_back_and_lease_does_not_give_it_again() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    let mut offer = seed(1, "http://h/a");
    offer.hand = true;
    let Offered::New(Some(lease)) = store.offer(vec![offer], None).await.unwrap().remove(0) else { panic!() };
    assert_eq!((lease.row, lease.url.as_str(), &lease.columns["id"]), (1, "http://h/a", &Value::from(1)));
    let leased = store.lease(want(9, 9)).await.unwrap();
    assert!(leased.hosts.is_empty() && leased.drained);
    let leased = store.lease(LeaseRequest { hosts: vec![lease.host], ..want(9, 9) }).await.unwrap();
    assert!(leased.hosts[0].entries.is_empty() && !leased.hosts[0].more);
    store.settle(vec![result(&encoder, &lease)]).await.unwrap();
    assert_eq!(store.account().results, 1);
}

#[tokio::test]
async fn a_lease_is_given_once_refilled_in_order_and_back_after_release() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    store.offer((1..=10).map(|i| seed(i, &format!("http://h/{i}"))).collect(), None).await.unwrap();
    let first = store.lease(want(1, 4)).await.unwrap().hosts.remove(0);
    let rows = |h: &HostLease| h.entries.iter().map(|e| e.row).collect::<Vec<_>>();
    assert_eq!((rows(&first), first.more, first.named), (vec![1, 2, 3, 4], true, true));
    let refill = |n| LeaseRequest { hosts: vec![first.id], new_hosts: 5, ..want(5, n) };
    let second = store.lease(refill(4)).await.unwrap();
    assert_eq!(second.hosts.len(), 1);
    assert_eq!(rows(&second.hosts[0]), [5, 6, 7, 8]);
    store.settle(vec![Settle::Release { entry: first.entries[1].entry }]).await.unwrap();
    let third = store.lease(refill(9)).await.unwrap();
    assert_eq!((rows(&third.hosts[0]), third.hosts[0].more, third.drained), (vec![2, 9, 10], false, true));
}

#[tokio::test]
async fn new_hosts_come_round_robin_and_skip_those_in_memory() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    store.offer((1..=12).map(|i| seed(i, &format!("http://h{}/{i}", i % 4))).collect(), None).await.unwrap();
    let a = store.lease(want(2, 1)).await.unwrap();
    let b = store.lease(want(9, 1)).await.unwrap();
    let keys = |l: &Leased| l.hosts.iter().map(|h| h.key.to_string()).collect::<Vec<_>>();
    assert_eq!((keys(&a), keys(&b)), (vec!["http://h1".into(), "http://h2".into()], vec!["http://h3".to_owned(), "http://h0".into()]));
    assert!(store.lease(want(9, 1)).await.unwrap().hosts.is_empty());
    // One host is let go: only it is new again, and the walk wraps to it.
    store.settle(vec![Settle::Release { entry: b.hosts[0].entries[0].entry }]).await.unwrap();
    assert_eq!(keys(&store.lease(want(9, 1)).await.unwrap()), ["http://h3"]);
}

#[tokio::test]
async fn later_entries_come_when_due_and_before_ready_ones() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    store.offer((1..=3).map(|i| seed(i, &format!("http://h/{i}"))).collect(), None).await.unwrap();
    let host = store.lease(want(1, 2)).await.unwrap().hosts.remove(0);
    let due = Wall(now().0 + 1000);
    let later = |i: usize, due, state: &str| Settle::Later { entry: host.entries[i].entry, due, state: state.into(), sweep: false };
    store.settle(vec![later(0, due, "{\"n\":1}"), later(1, Wall(0), "{}")]).await.unwrap();
    let early = store.lease(want(1, 9)).await.unwrap();
    assert_eq!(early.hosts[0].entries.iter().map(|e| e.row).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((early.next_due, early.drained), (Some(due), false));
    assert_eq!((early.hosts[0].more, early.hosts[0].next_due), (true, Some(due)));
    store.settle(early.hosts[0].entries.iter().map(|e| Settle::Release { entry: e.entry }).collect()).await.unwrap();
    let at = store.lease(LeaseRequest { now: due, ..want(1, 9) }).await.unwrap();
    assert_eq!(at.hosts[0].entries.iter().map(|e| e.row).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(at.hosts[0].entries[0].state.as_deref(), Some("{\"n\":1}"));
}

#[tokio::test]
async fn a_lease_takes_half_of_what_is_due_while_first_tries_wait() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    store.offer((1..=20).map(|i| seed(i, &format!("http://h/{i}"))).collect(), None).await.unwrap();
    let first = store.lease(want(1, 10)).await.unwrap().hosts.remove(0);
    let later = |l: &Lease| Settle::Later { entry: l.entry, due: Wall(now().0 - 1), state: "{}".into(), sweep: false };
    store.settle(first.entries.iter().map(later).collect()).await.unwrap();
    let rows = |h: &HostLease| h.entries.iter().map(|e| e.row).collect::<Vec<_>>();
    let lease = async |hosts: bool, n| {
        let (of, none) = (vec![first.id], Vec::new());
        let (hosts, first_tries) = if hosts { (of, none) } else { (none, of) };
        store.lease(LeaseRequest { hosts, first_tries, ..want(0, n) }).await.unwrap().hosts.remove(0)
    };
    let a = lease(true, 4).await;
    assert_eq!((rows(&a), a.due_left, a.ready_left, a.more), (vec![1, 2, 11, 12], true, true, true));
    let b = lease(false, 6).await;
    assert_eq!((rows(&b), b.due_left, b.ready_left), ((13..=18).collect(), true, true), "first tries alone");
    let c = lease(true, 8).await;
    assert_eq!(
        (rows(&c), c.due_left, c.ready_left),
        (vec![3, 4, 5, 6, 7, 8, 19, 20], true, false),
        "what first tries leave is for the others"
    );
    let d = lease(false, 8).await;
    assert_eq!((rows(&d), d.due_left, d.ready_left, d.more), (vec![], true, false, true));
    assert_eq!(rows(&lease(true, 8).await), [9, 10]);
}

#[tokio::test]
async fn many_due_entries_of_one_host_hide_no_other_host() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let many = (1..=3000).map(|i| seed(i, &format!("http://many/{i}")));
    store.offer(many.chain([seed(3001, "http://one/1"), seed(3002, "http://other/1")]).collect(), None).await.unwrap();
    let first = store.lease(want(9, 5000)).await.unwrap();
    let mut entries: Vec<&Lease> = first.hosts.iter().flat_map(|h| &h.entries).collect();
    entries.sort_by_key(|e| e.row);
    let later = |e: &&Lease, i: i64| Settle::Later { entry: e.entry, due: Wall(now().0 + i), state: "{}".into(), sweep: false };
    store.settle(entries.iter().zip(1..).map(|(e, i)| later(e, i)).collect()).await.unwrap();
    let at = |ms| LeaseRequest { now: Wall(now().0 + ms), ..want(9, 1) };
    let keys = |l: Leased| l.hosts.iter().map(|h| h.key.to_string()).collect::<Vec<_>>();
    assert_eq!(keys(store.lease(at(2000)).await.unwrap()), ["http://many"]);
    assert_eq!(keys(store.lease(at(3001)).await.unwrap()), ["http://one"], "behind 3,000 that are due, and alone");
    assert_eq!(keys(store.lease(at(5000)).await.unwrap()), ["http://other"]);
    let last = store.lease(at(5000)).await.unwrap();
    assert!(last.hosts.is_empty() && !last.unfinished && !last.drained);
}

#[tokio::test]
async fn a_host_with_waiting_entries_alone_comes_as_a_new_host_when_due() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    store.offer(vec![seed(1, "http://h/1")], None).await.unwrap();
    let lease = lease_all(&store).await.remove(0);
    let due = Wall(now().0 + 5);
    store.settle(vec![Settle::Later { entry: lease.entry, due, state: "{}".into(), sweep: false }]).await.unwrap();
    let none = store.lease(want(9, 9)).await.unwrap();
    assert!(none.hosts.is_empty() && !none.drained && none.next_due == Some(due));
    assert_eq!(store.lease(LeaseRequest { now: due, ..want(9, 9) }).await.unwrap().hosts[0].entries[0].row, 1);
}

#[tokio::test]
async fn the_final_sweep_waits_until_asked_for_and_is_counted() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(seeds(2), None).await.unwrap();
    for lease in lease_all(&store).await {
        store.settle(vec![Settle::Later { entry: lease.entry, due: Wall(0), state: "{}".into(), sweep: true }]).await.unwrap();
    }
    let none = store.lease(want(9, 9)).await.unwrap();
    assert!(none.hosts.is_empty() && !none.drained && none.next_due.is_none());
    assert_eq!(none.sweep_waiting, 2);
    store.crash().await;
    let (store2, _) = bed.open();
    assert_eq!(store2.lease(want(0, 0)).await.unwrap().sweep_waiting, 0, "the crash came before the commit");
    drop((store, encoder));
    columns(&store2).await;
    store2.offer(seeds(2), None).await.unwrap();
    for lease in lease_all(&store2).await {
        store2.settle(vec![Settle::Later { entry: lease.entry, due: Wall(0), state: "{}".into(), sweep: true }]).await.unwrap();
    }
    store2.close(None).await.unwrap();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    let swept = store.lease(LeaseRequest { sweep: true, ..want(9, 9) }).await.unwrap();
    assert_eq!((swept.hosts.len(), swept.sweep_waiting, swept.drained), (2, 2, true));
    for host in &swept.hosts {
        store.settle(vec![skip(&encoder, &host.entries[0], Reason::Http(500))]).await.unwrap();
    }
    assert_eq!(store.lease(want(9, 9)).await.unwrap().sweep_waiting, 0);
    assert_eq!(store.close(Some(1)).await.unwrap().skipped, 2);
    bed.verified();
}

#[tokio::test]
async fn an_entry_of_the_final_sweep_waits_until_it_is_due_also_after_a_restart() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    columns(&store).await;
    store.offer(seeds(3), None).await.unwrap();
    let due = |i: usize| Wall([0, now().0 + 1000, now().0 + 2000][i]);
    let leases = lease_all(&store).await;
    let later = |(i, l): (usize, &Lease)| Settle::Later { entry: l.entry, due: due(i), state: "{}".into(), sweep: true };
    store.settle(leases.iter().enumerate().map(later).collect()).await.unwrap();
    store.close(None).await.unwrap();
    let (store, _) = bed.open();
    let at = |now| LeaseRequest { sweep: true, now, ..want(9, 9) };
    let rows = |l: &Leased| l.hosts.iter().flat_map(|h| &h.entries).map(|e| e.row).collect::<Vec<_>>();
    let first = store.lease(at(now())).await.unwrap();
    assert_eq!((rows(&first), first.sweep_waiting, first.next_due, first.drained), (vec![leases[0].row], 3, Some(due(1)), false));
    let second = store.lease(at(due(1))).await.unwrap();
    assert_eq!((rows(&second), second.next_due), (vec![leases[1].row], Some(due(2))));
    let third = store.lease(at(due(2))).await.unwrap();
    assert_eq!((rows(&third), third.next_due, third.drained), (vec![leases[2].row], None, true));
}

#[tokio::test]
async fn discovered_entries_carry_seed_columns_parent_and_depth() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(vec![seed(7, "http://h/")], None).await.unwrap();
    let root = lease_all(&store).await.remove(0);
    let links = vec![link(root.entry, 1, "http://h/a"), link(root.entry, 1, "http://h/"), link(root.entry, 1, "http://other/b")];
    let settled =
        store.settle(vec![Settle::Result { entry: root.entry, rows: rows_of(&encoder, &root, &["t"]), discovered: links }]).await.unwrap();
    assert_eq!(settled, Settled { new: 2, known: 1, cut: 0 });
    let hosts = store.lease(want(9, 9)).await.unwrap().hosts;
    let other = hosts.iter().find(|h| h.key.as_str() == "http://other").unwrap();
    assert!(!other.named && !store.host_named(&other.key).await.unwrap());
    let a = &hosts.iter().find(|h| h.key.as_str() == "http://h").unwrap().entries[0];
    assert_eq!((a.row, a.depth, a.via.as_deref(), &a.columns["id"]), (7, 1, Some("http://h/"), &Value::from(7)));
    let deep = vec![link(a.entry, 2, "http://h/a/a")];
    store.settle(vec![Settle::Result { entry: a.entry, rows: EncodedRows::default(), discovered: deep }]).await.unwrap();
    let b = lease_all(&store).await.remove(0);
    assert_eq!((b.row, b.depth, b.via.as_deref(), &b.columns["id"]), (7, 2, Some("http://h/a"), &Value::from(7)));
    let account = store.commit().await.unwrap();
    assert_eq!(account.to_string(), "inputs 1 + discovered 3 = 2 results + 0 skipped + 2 pending");
}

#[tokio::test]
async fn a_shorter_way_moves_a_pending_entry_up() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    store.offer(vec![seed(1, "http://h/")], None).await.unwrap();
    let root = lease_all(&store).await.remove(0);
    store.offer(vec![link(root.entry, 1, "http://h/a")], None).await.unwrap();
    let a = lease_host(&store, root.host).await.remove(0);
    store.offer(vec![link(a.entry, 2, "http://h/y"), link(a.entry, 2, "http://h/x")], None).await.unwrap();
    store.offer(vec![link(root.entry, 1, "http://h/x")], None).await.unwrap();
    let leased = lease_host(&store, root.host).await;
    assert_eq!(leased.iter().map(|l| (l.url.as_str(), l.depth)).collect::<Vec<_>>(), [("http://h/x", 1), ("http://h/y", 2)]);
}

async fn lease_host(store: &Store, host: HostId) -> Vec<Lease> {
    store.lease(LeaseRequest { hosts: vec![host], ..want(0, 99) }).await.unwrap().hosts.remove(0).entries
}

#[tokio::test]
async fn a_paged_entry_goes_on_where_its_last_committed_page_was() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(vec![seed(1, "http://h/list")], mark("1", true)).await.unwrap();
    let lease = lease_all(&store).await.remove(0);
    let page = |n: &str| Settle::Page { entry: lease.entry, rows: rows_of(&encoder, &lease, &[n, n]), state: n.into(), discovered: vec![] };
    store.settle(vec![page("1")]).await.unwrap();
    store.commit().await.unwrap();
    store.settle(vec![page("2")]).await.unwrap();
    assert_eq!((store.account().rows, store.account().pending), (4, 1));
    store.crash().await;
    let (store, opened) = bed.open();
    assert_eq!((opened.account.rows, opened.account.pending), (2, 1));
    let lease = lease_all(&store).await.remove(0);
    assert_eq!(lease.state.as_deref(), Some("1"));
    let last = rows_of(&encoder, &lease, &["2", "2", "3"]);
    store.settle(vec![Settle::Result { entry: lease.entry, rows: last, discovered: vec![] }]).await.unwrap();
    let account = store.close(Some(0)).await.unwrap();
    assert_eq!((account.results, account.rows), (1, 5));
    assert_eq!(bed.values("results", "title"), ["1", "1", "2", "2", "3"]);
    bed.verified();
}

#[tokio::test]
async fn skipped_entries_are_put_back_with_their_state() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(vec![seed(1, "http://a/1"), seed(2, "http://b/2"), seed(3, "http://a/1"), bad(4, "x")], mark("4", true)).await.unwrap();
    let batch = lease_all(&store).await.iter().map(|l| skip(&encoder, l, Reason::Http(503))).collect();
    store.settle(batch).await.unwrap();
    store.close(Some(1)).await.unwrap();
    let groups: Vec<_> = read::skipped(&bed.dir()).unwrap().into_iter().map(|g| (g.reason, g.count, g.example_row)).collect();
    assert_eq!(groups, [("http-503".into(), 2, 1), ("bad-input".into(), 1, 4), ("duplicate".to_owned(), 1, 3)]);
    let (store, opened) = bed.open();
    assert_eq!(opened.finished, Some(1));
    let only = PutBack { reasons: vec!["http-503".into()], hosts: vec!["a".into()] };
    assert_eq!(store.put_back(only).await.unwrap(), [("http-503".to_owned(), 1)].into());
    assert_eq!(store.put_back(PutBack::default()).await.unwrap(), [("http-503".to_owned(), 1)].into());
    let account = store.commit().await.unwrap();
    assert_eq!(account.to_string(), "inputs 4 + discovered 0 = 0 results + 2 skipped + 2 pending");
    store.crash().await;
    let (store, opened) = bed.open();
    assert_eq!(opened.finished, None, "work was added since the end");
    let leases = lease_all(&store).await;
    assert_eq!((leases.len(), leases[0].state.as_deref()), (2, Some("{\"cursor\":1}")));
    assert_eq!(bed.text("skipped").lines().count(), 4, "the skipped file is a log");
}

#[tokio::test]
async fn small_things_ride_along_and_come_back() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    store.offer(vec![seed(1, "http://h/1")], None).await.unwrap();
    let host = lease_all(&store).await.remove(0).host;
    let robots = StoredRobots { verdict: "rules".into(), body: b"User-agent: *".to_vec(), until: Wall(5) };
    store.put_host(host, robots.clone()).await.unwrap();
    let soon = crate::clock::Clock::wall(&SystemClock::new()).plus(Duration::from_hours(1));
    store.hold("h", Wall(77)).await.unwrap();
    store.hold("h", soon).await.unwrap();
    store.hold("over", Wall(88)).await.unwrap();
    store.put("breaker", "{}").await.unwrap();
    store.snapshot("{\"rate\":1}".into()).await.unwrap();
    store.close(None).await.unwrap();
    let view = read::status(&bed.dir()).unwrap().unwrap();
    assert_eq!((view.snapshot.as_deref(), view.job.as_str(), view.clean, view.running), (Some("{\"rate\":1}"), "job", true, None));
    let (store, opened) = bed.open();
    assert_eq!(opened.holds, [("h".to_owned(), soon)], "those that are over go");
    assert_eq!(opened.extra, [("breaker".to_owned(), "{}".to_owned())].into());
    assert_eq!(store.lease(want(1, 1)).await.unwrap().hosts[0].robots, Some(robots));
    assert!(store.host_named(&HostKey::from_stored("http://h")).await.unwrap());
    let view = read::status(&bed.dir()).unwrap().unwrap();
    assert_eq!(view.running.unwrap().pid, Some(std::process::id()));
    assert!(!view.clean);
}

#[tokio::test]
async fn a_link_that_turns_out_to_be_a_seed_is_the_seed_as_long_as_nobody_holds_it() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(vec![seed(1, "http://h/")], None).await.unwrap();
    let root = lease_all(&store).await.remove(0);
    let discovered = ["http://h/a", "http://i/held", "http://h/c"].map(|u| link(root.entry, 1, u)).into();
    store.settle(vec![Settle::Result { entry: root.entry, rows: rows_of(&encoder, &root, &["t"]), discovered }]).await.unwrap();
    let i = store.lease(want(9, 0)).await.unwrap().hosts.into_iter().find(|h| h.key.as_str() == "http://i").unwrap().id;
    let held = lease_host(&store, i).await.remove(0);
    let offers = vec![seed(2, "HTTP://H/a"), seed(3, "http://i/held"), seed(4, "http://h/c"), seed(5, "http://h/c")];
    let offered = store.offer(offers, mark("5", true)).await.unwrap();
    let fates: Vec<Option<u64>> = offered
        .iter()
        .map(|o| match o {
            Offered::New(_) => None,
            Offered::Known { first_row, .. } => Some(*first_row),
            o => panic!("{o:?}"),
        })
        .collect();
    assert_eq!(fates, [None, Some(1), None, Some(4)]);
    let mut leases = lease_all(&store).await;
    leases.sort_by_key(|l| l.row);
    let told: Vec<_> = leases.iter().map(|l| (l.row, l.url.as_str(), l.depth, l.via.as_deref(), l.columns["id"].as_u64())).collect();
    assert_eq!(told, [(2, "HTTP://H/a", 0, None, Some(2)), (4, "http://h/c", 0, None, Some(4))]);
    leases.push(held);
    store.settle(leases.iter().map(|l| result(&encoder, l)).collect()).await.unwrap();
    let account = store.close(Some(0)).await.unwrap();
    assert_eq!(account.to_string(), "inputs 5 + discovered 1 = 4 results + 2 skipped + 0 pending");
    bed.verified();
}

#[tokio::test]
async fn a_seed_does_not_take_over_what_only_redirects_to_it() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(vec![seed(1, "http://h/")], None).await.unwrap();
    let root = lease_all(&store).await.remove(0);
    let discovered = vec![link(root.entry, 1, "http://h/moved")];
    store.settle(vec![Settle::Result { entry: root.entry, rows: rows_of(&encoder, &root, &["t"]), discovered }]).await.unwrap();
    let moved = lease_all(&store).await.remove(0);
    assert_eq!(store.claim(url_offer("http://h/target").key, moved.entry).await.unwrap(), Claim::Yours);
    store.settle(vec![Settle::Release { entry: moved.entry }]).await.unwrap();
    let offered = store.offer(vec![seed(2, "http://h/target")], None).await.unwrap();
    assert!(matches!(offered[0], Offered::Known { first_row: 1, .. }));
    assert_eq!(lease_all(&store).await[0].url, "http://h/moved");
}

#[tokio::test]
async fn a_second_key_belongs_to_one_entry() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    store.offer(vec![seed(1, "http://h/1"), seed(2, "http://h/2")], None).await.unwrap();
    let leases = lease_all(&store).await;
    let target = url_offer("http://h/target").key;
    assert_eq!(store.claim(target, leases[0].entry).await.unwrap(), Claim::Yours);
    assert_eq!(store.claim(target, leases[0].entry).await.unwrap(), Claim::Yours);
    assert_eq!(store.claim(target, leases[1].entry).await.unwrap(), Claim::Known { first_row: 1 });
    assert!(matches!(store.offer(vec![seed(3, "http://h/target")], None).await.unwrap()[0], Offered::Known { first_row: 1, .. }));
}

#[tokio::test]
async fn commits_come_by_themselves_and_are_told() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let mut committed = store.committed();
    store.offer(seeds(3), None).await.unwrap();
    assert_eq!(committed.borrow().inputs, 0);
    tokio::time::timeout(Duration::from_secs(5), committed.changed()).await.unwrap().unwrap();
    assert_eq!((committed.borrow().inputs, committed.borrow().pending), (3, 3));
}

#[tokio::test]
async fn a_parked_host_comes_when_its_time_is_over_whoever_names_it() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let urls = ["http://a/1", "http://a/2", "http://b/1", "http://b/2"];
    store.offer((1..).zip(urls).map(|(row, url)| seed(row, url)).collect(), None).await.unwrap();
    let first = store.lease(want(1, 1)).await.unwrap().hosts.remove(0);
    let due = Wall(now().0 + 5000);
    store.settle(vec![Settle::Release { entry: first.entries[0].entry }]).await.unwrap();
    let others = store.lease(LeaseRequest { park: vec![(first.id, due)], ..want(9, 1) }).await.unwrap();
    assert_eq!(others.hosts.iter().map(|h| h.key.as_str()).collect::<Vec<_>>(), ["http://b"]);
    assert_eq!((others.next_due, others.drained), (Some(due), false));
    let named = |ms| LeaseRequest { hosts: vec![first.id], now: Wall(now().0 + ms), ..want(9, 9) };
    let early = store.lease(named(4999)).await.unwrap();
    assert_eq!((early.hosts.len(), early.hosts[0].entries.len(), early.hosts[0].more, early.hosts[0].next_due), (1, 0, true, Some(due)));
    let back = store.lease(named(5000)).await.unwrap();
    assert_eq!((back.hosts[0].entries.len(), back.next_due), (2, None));
}

#[tokio::test]
async fn a_settle_of_an_entry_that_is_not_leased_is_refused_alone() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(seeds(2), None).await.unwrap();
    let leases = lease_all(&store).await;
    let twice = vec![result(&encoder, &leases[0]), result(&encoder, &leases[0]), result(&encoder, &leases[1])];
    assert!(matches!(store.settle(twice).await, Err(StoreError::NotLeased(_))));
    let account = store.close(Some(0)).await.unwrap();
    assert_eq!((account.results, account.rows), (2, 2));
    assert_eq!(bed.text("results").lines().count(), 2);
}

#[tokio::test]
async fn a_settle_that_fails_when_its_member_is_made_takes_no_others_along() {
    let mut bed = Bed::new(SinkFormat::Jsonl, Codec::Gzip);
    bed.flush = Duration::from_mins(1);
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(seeds(4), None).await.unwrap();
    let leases = lease_all(&store).await;
    store.settle(leases[..3].iter().map(|l| result(&encoder, l)).collect()).await.unwrap();
    store.forget(leases[0].entry).await;
    assert_eq!(store.commit().await.unwrap().results, 2);
    let last = store.settle(vec![result(&encoder, &leases[3])]).await;
    assert!(matches!(last, Err(StoreError::NotLeased(e)) if e == leases[0].entry.0), "{last:?}");
    let account = store.close(None).await.unwrap();
    assert_eq!((account.results, account.rows, account.pending), (3, 3, 1));
    bed.verified();
}

#[tokio::test]
async fn rows_of_a_compressed_sink_wait_for_their_member_and_others_do_not() {
    let mut bed = Bed::new(SinkFormat::Jsonl, Codec::Gzip);
    bed.flush = Duration::from_mins(1);
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(seeds(4), mark("4", true)).await.unwrap();
    let leases = lease_all(&store).await;
    let mut committed = store.committed();
    committed.mark_unchanged();
    let empty =
        Settle::Result { entry: leases[1].entry, rows: EncodedRows::default(), discovered: vec![link(leases[1].entry, 1, "http://n/")] };
    store.settle(vec![result(&encoder, &leases[0]), empty]).await.unwrap();
    while committed.borrow_and_update().results == 0 {
        tokio::time::timeout(Duration::from_secs(5), committed.changed()).await.unwrap().unwrap();
    }
    let account = *committed.borrow();
    assert_eq!((account.results, account.rows, account.pending, account.discovered), (1, 0, 4, 1));
    assert_eq!((store.account().pending, store.left()), (4, 3), "what only waits for its member is not left to be fetched");
    assert_eq!(bed.size("results"), 0);
    // A skip of an entry whose page waits: the member comes first.
    let page = Settle::Page { entry: leases[2].entry, rows: rows_of(&encoder, &leases[2], &["p"]), state: "1".into(), discovered: vec![] };
    store.settle(vec![page, skip(&encoder, &leases[2], Reason::Http(500))]).await.unwrap();
    let account = store.commit().await.unwrap();
    assert_eq!((account.results, account.rows, account.skipped, account.pending, store.left()), (2, 2, 1, 2, 2));
    assert_eq!(bed.text("results").lines().count(), 2);
    store.close(None).await.unwrap();
    bed.verified();
}

#[tokio::test]
async fn a_host_whose_entries_wait_for_a_member_alone_comes_again_with_new_ones() {
    let bed = Bed::new(SinkFormat::Jsonl, Codec::Zstd);
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(vec![seed(1, "http://h/1")], None).await.unwrap();
    let lease = lease_all(&store).await.remove(0);
    store.settle(vec![result(&encoder, &lease)]).await.unwrap();
    assert!(store.lease(want(9, 9)).await.unwrap().drained);
    assert!(matches!(store.settle(vec![result(&encoder, &lease)]).await, Err(StoreError::NotLeased(_))));
    store.offer(vec![seed(2, "http://h/2")], None).await.unwrap();
    assert_eq!(lease_all(&store).await[0].row, 2);
    assert_eq!(store.commit().await.unwrap().results, 1);
}

#[tokio::test]
async fn a_member_comes_after_the_flush_time() {
    let mut bed = Bed::new(SinkFormat::Csv, Codec::Zstd);
    bed.flush = Duration::from_millis(50);
    let (store, _) = bed.open();
    let encoder = columns(&store).await;
    store.offer(seeds(1), None).await.unwrap();
    let lease = lease_all(&store).await.remove(0);
    let mut committed = store.committed();
    store.settle(vec![result(&encoder, &lease)]).await.unwrap();
    while committed.borrow_and_update().results == 0 {
        tokio::time::timeout(Duration::from_secs(5), committed.changed()).await.unwrap().unwrap();
    }
    assert_eq!(bed.text("results"), "id,title,_row,_url\n1,t,1,http://h1/p1\n");
}

#[tokio::test]
async fn a_throwaway_state_writes_to_stdout_and_leaves_nothing() {
    let bed = Bed::jsonl();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut config = bed.config();
    config.dir = None;
    config.results.place = SinkPlace::Stdout;
    config.skipped = None;
    config.stdout = Some(std::os::fd::OwnedFd::from(writer).into());
    let (store, opened) = open(config, Arc::new(SystemClock::new())).unwrap();
    assert!(!opened.resumed);
    let encoder = columns(&store).await;
    store.offer(vec![seed(1, "http://h/1"), seed(2, "http://h/1"), bad(3, "x")], None).await.unwrap();
    let lease = lease_all(&store).await.remove(0);
    store.settle(vec![result(&encoder, &lease)]).await.unwrap();
    let account = store.close(Some(1)).await.unwrap();
    assert_eq!(account.skipped, 2);
    drop(store);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(!exists(&bed.dir()));
}

#[tokio::test]
async fn a_throwaway_state_removes_those_of_killed_processes() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let dead = child.id();
    child.wait().unwrap();
    let base = std::env::temp_dir();
    let stale = base.join(format!("gleaner-{dead}-1700000000000-0"));
    let held = base.join(format!("gleaner-{dead}-1700000000000-1"));
    let alive = base.join(format!("gleaner-{}-1700000000000-0", std::process::id()));
    let foreign = base.join(format!("gleaner-{dead}-notes"));
    for dir in [&stale, &held, &alive, &foreign] {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("state.db"), "x").unwrap();
    }
    let lock = lock::folder(&held, now()).unwrap();
    let mut config = Bed::jsonl().config();
    config.dir = None;
    config.results.place = SinkPlace::Stdout;
    config.skipped = None;
    let (store, _) = open(config, Arc::new(SystemClock::new())).unwrap();
    let left: Vec<bool> = [&stale, &held, &alive, &foreign].map(|d| exists(d)).into();
    drop(lock);
    for dir in [&stale, &held, &alive, &foreign] {
        let _ = std::fs::remove_dir_all(dir);
    }
    assert_eq!(left, [false, true, true, true]);
    drop(store);
}

#[tokio::test]
async fn a_closed_stdout_is_told_and_ends_the_store() {
    let bed = Bed::jsonl();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut config = bed.config();
    config.results.place = SinkPlace::Stdout;
    config.stdout = Some(std::os::fd::OwnedFd::from(writer).into());
    let (store, _) = open(config, Arc::new(SystemClock::new())).unwrap();
    let encoder = columns(&store).await;
    drop(reader);
    store.offer(seeds(1), None).await.unwrap();
    let lease = lease_all(&store).await.remove(0);
    store.settle(vec![result(&encoder, &lease)]).await.unwrap();
    assert!(matches!(store.commit().await, Err(StoreError::StdoutClosed)));
    assert!(matches!(store.offer(seeds(1), None).await, Err(StoreError::StdoutClosed)));
}

#[tokio::test]
async fn calls_after_close_or_a_panic_fail_and_do_not_hang() {
    let bed = Bed::jsonl();
    let (store, _) = bed.open();
    let other = store.clone();
    store.close(None).await.unwrap();
    assert!(matches!(other.commit().await, Err(StoreError::Closed)));
    let (store, _) = bed.open();
    store.panic().await;
    assert!(matches!(store.commit().await, Err(StoreError::Gone)));
    assert!(matches!(store.offer(seeds(1), None).await, Err(StoreError::Gone)));
}
