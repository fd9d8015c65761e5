use super::*;
use crate::retry::table::tests::retry_plan;

fn told(unit: f64) -> Tried {
    Tried {
        start: Wall(1_700_000_000_000),
        took: Duration::from_millis(12),
        waited: Duration::from_millis(34),
        status: Some(503),
        unit,
        whose: Whose::Key,
    }
}

fn bad(reason: Reason, repeat: Repeat) -> Judgement {
    let class = reason.class();
    Judgement::Trouble(Trouble { reason, class, repeat, resend: true, fresh: false, floor: None, message: "m".into() })
}

fn transient() -> Judgement {
    bad(Reason::Http(503), Repeat::Backoff)
}

fn refused(by_text: bool) -> Judgement {
    Judgement::Refused { reason: Reason::Http(429), asked: None, from: WaitFrom::Backoff, by_text, message: "m".into() }
}

/// Feeds the same judgement until it ends; the verdicts in short.
fn run(tries: &mut Tries, j: &Judgement, plan: &RetryPlan) -> String {
    let mut out = Vec::new();
    for _ in 0..60 {
        let v = decide(tries, j.clone(), plan, &told(1.0));
        out.push(match &v {
            Verdict::Again { after, sweep, charged, identity, fresh } => format!(
                "{}{}{}{}{}",
                after.as_secs_f64(),
                if *sweep { "S" } else { "" },
                if *charged { "" } else { "u" },
                if *identity { "i" } else { "" },
                if *fresh { "f" } else { "" }
            ),
            Verdict::Hold { .. } => "H".into(),
            Verdict::GiveUp { reason, .. } => reason.to_string(),
            Verdict::Take => "take".into(),
            Verdict::Follow { .. } => "hop".into(),
        });
        if matches!(v, Verdict::GiveUp { .. } | Verdict::Take) {
            break;
        }
    }
    out.join(" ")
}

#[test]
fn five_tries_in_all_the_last_of_them_kept_for_the_end() {
    let mut t = Tries::default();
    assert_eq!(run(&mut t, &transient(), &retry_plan()), "1 2 4 8S http-503");
    assert_eq!((t.made, t.charged, t.records.len()), (5, 5, 5));
    let plain = RetryPlan { final_sweep: false, ..retry_plan() };
    assert_eq!(run(&mut Tries::default(), &transient(), &plain), "1 2 4 8 http-503");
    assert_eq!(run(&mut Tries::default(), &transient(), &RetryPlan { attempts: 1, ..retry_plan() }), "http-503");
    assert_eq!(run(&mut Tries::default(), &transient(), &RetryPlan { attempts: 2, ..retry_plan() }), "1S http-503");
}

#[test]
fn what_will_hardly_change_is_tried_once_more_and_not_at_the_end() {
    for r in [Reason::ProtocolError, Reason::TlsHandshake, Reason::DnsNxdomain, Reason::DnsNodata] {
        assert_eq!(run(&mut Tries::default(), &bad(r.clone(), Repeat::Once), &retry_plan()), format!("1 {r}"));
        assert_eq!(run(&mut Tries::default(), &bad(r.clone(), Repeat::Once), &RetryPlan { attempts: 1, ..retry_plan() }), r.to_string());
    }
    let mut t = Tries::default();
    let plan = retry_plan();
    decide(&mut t, bad(Reason::ProtocolError, Repeat::Once), &plan, &told(1.0));
    decide(&mut t, transient(), &plan, &told(1.0));
    let v = decide(&mut t, bad(Reason::ProtocolError, Repeat::Once), &plan, &told(1.0));
    assert!(matches!(v, Verdict::GiveUp { reason: Reason::ProtocolError, .. }));
}

#[test]
fn free_repeats_are_three_and_then_it_is_charged() {
    let mut t = Tries::default();
    assert_eq!(run(&mut t, &bad(Reason::ConnClosed, Repeat::Free), &retry_plan()), "0uf 0uf 0uf 1 2 4 8S conn-closed");
    assert_eq!((t.made, t.charged), (8, 5));
}

#[test]
fn a_broken_coding_is_asked_again_plain_once_and_uncharged() {
    let mut t = Tries::default();
    assert_eq!(run(&mut t, &bad(Reason::DecodeError, Repeat::Identity), &retry_plan()), "0ui decode-error");
    assert_eq!((t.made, t.charged), (2, 1));
    let mut t = Tries::default();
    decide(&mut t, bad(Reason::DecodeError, Repeat::Identity), &retry_plan(), &told(1.0));
    assert_eq!(run(&mut t, &transient(), &retry_plan()), "1i 2i 4i 8Si http-503");
    let mut t = Tries { free: FREE_REPEATS, ..Tries::default() };
    assert_eq!(run(&mut t, &bad(Reason::DecodeError, Repeat::Identity), &retry_plan()), "decode-error");
}

#[test]
fn blocked_and_permanent_end_at_once() {
    for r in [Reason::Forbidden, Reason::WafChallenge, Reason::TlsCert, Reason::Http(404), Reason::TooLarge] {
        let mut t = Tries::default();
        assert_eq!(run(&mut t, &bad(r.clone(), Repeat::Never), &retry_plan()), r.to_string());
        assert_eq!(t.charged, 1);
    }
}

#[test]
fn what_must_not_be_sent_again_is_not() {
    for repeat in [Repeat::Backoff, Repeat::Once, Repeat::Free, Repeat::Identity, Repeat::Local] {
        let Judgement::Trouble(t) = bad(Reason::Http(500), repeat) else { unreachable!() };
        let j = Judgement::Trouble(Trouble { resend: false, ..t });
        assert_eq!(run(&mut Tries::default(), &j, &retry_plan()), "http-500", "{repeat:?}");
    }
}

#[test]
fn refusals_and_local_trouble_charge_nothing() {
    let mut t = Tries::default();
    let waits = run(&mut t, &refused(false), &retry_plan());
    assert!(waits.split(' ').all(|w| w == "H"), "{waits}");
    assert_eq!((t.made, t.charged, t.records.len(), t.records[0].n), (60, 0, RECORDS, 11));
    let mut t = Tries::default();
    let waits = run(&mut t, &bad(Reason::LocalResource, Repeat::Local), &retry_plan());
    assert!(waits.starts_with("1u 2u 4u 8u 16u 32u 60u 60u"), "{waits}");
    assert_eq!(t.charged, 0);
    let low = decide(&mut Tries::default(), bad(Reason::LocalResource, Repeat::Local), &retry_plan(), &told(0.0));
    assert!(matches!(low, Verdict::Again { after, .. } if after == Duration::from_millis(500)));
}

#[test]
fn a_refusal_by_text_alone_is_believed_three_times() {
    let j = Judgement::Refused { reason: Reason::Forbidden, asked: None, from: WaitFrom::Backoff, by_text: true, message: "m".into() };
    assert_eq!(run(&mut Tries::default(), &j, &retry_plan()), "H H H forbidden");
}

#[test]
fn an_entry_with_five_refusals_of_its_own_is_skipped() {
    let plan = retry_plan();
    let mut t = Tries::default();
    let mut say = |whose| decide(&mut t, refused(false), &plan, &Tried { whose, ..told(1.0) });
    for whose in [Whose::Key, Whose::Own, Whose::Own, Whose::Own, Whose::Own, Whose::Others, Whose::Own, Whose::Own, Whose::Own, Whose::Own]
    {
        assert!(matches!(say(whose), Verdict::Hold { .. }));
    }
    assert!(matches!(say(Whose::Own), Verdict::GiveUp { reason: Reason::Http(429), class: Class::Throttled, .. }));
    assert_eq!(t.charged, 0);
}

#[test]
fn jitter_is_full_and_capped() {
    let plan = retry_plan();
    assert_eq!(backoff(&plan, 1, 0.0), Duration::ZERO);
    assert_eq!(backoff(&plan, 1, 0.5), Duration::from_millis(500));
    assert_eq!(backoff(&plan, 3, 1.0), Duration::from_secs(4));
    for k in [7, 100, u32::MAX] {
        assert_eq!(backoff(&plan, k, 1.0), Duration::from_mins(1));
    }
    let odd = RetryPlan { backoff: Duration::MAX, max_backoff: Duration::MAX, ..plan };
    assert!(backoff(&odd, 9, 7.0) > Duration::from_secs(1));
}

#[test]
fn retry_after_is_never_undercut() {
    for unit in [0.0, 0.5, 1.0] {
        let Judgement::Trouble(t) = transient() else { unreachable!() };
        let j = Judgement::Trouble(Trouble { floor: Some(Duration::from_secs(20)), ..t });
        let v = decide(&mut Tries::default(), j, &retry_plan(), &told(unit));
        assert!(matches!(v, Verdict::Again { after, .. } if after >= Duration::from_secs(20) && after <= Duration::from_secs(22)), "{v:?}");
    }
}

#[test]
fn hops_are_no_tries_and_a_result_is_a_charged_one() {
    let mut t = Tries::default();
    let to = Url::parse("http://h/").unwrap();
    let hop = Judgement::Redirect { to, follow: Follow::Keep };
    assert!(matches!(decide(&mut t, hop, &retry_plan(), &told(0.0)), Verdict::Follow { .. }));
    assert_eq!(t, Tries::default());
    assert_eq!(decide(&mut t, Judgement::Accept, &retry_plan(), &told(0.0)), Verdict::Take);
    assert_eq!((t.made, t.charged), (1, 1));
}

#[test]
fn what_an_entry_has_been_through_is_durable() {
    let mut t = Tries::default();
    decide(&mut t, bad(Reason::ProtocolError, Repeat::Once), &retry_plan(), &told(1.0));
    decide(&mut t, refused(true), &retry_plan(), &told(1.0));
    let text = serde_json::to_string(&t).unwrap();
    assert_eq!(serde_json::from_str::<Tries>(&text).unwrap(), t);
    assert_eq!(serde_json::from_str::<Tries>("{}").unwrap(), Tries::default(), "fields may come later");
    let r = &t.records[0];
    assert_eq!((r.n, r.outcome.as_str(), r.ms, r.wait_ms, r.charged), (1, "protocol-error", 12, 34, true));
    assert!(!t.records[1].charged);
}
