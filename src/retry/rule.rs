//! What a rule of `[[response]]` makes of an answer, in the place of the table.

use super::table::{Ctx, Judgement, Repeat, SECONDARY, Trouble, of_answer, refused, said, wait_of};
use crate::model::plan::{ResponsePlan, Then};
use crate::model::{Answer, Class, Reason};

/// What an answer that a rule matches means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// What the table could have said, too.
    Judged(Judgement),
    /// A result without rows of this page; it was the last.
    EndOfPages,
    /// The entry's pages are asked for from the first again; trouble where that was done often enough.
    RestartPages(Trouble),
    /// The run ends, the entry stays pending and is not charged; why, as trouble.
    Stop(Trouble),
}

/// What `answer` means, which the rule at place `i` matches. Its reason is the rule's own, else the status's; its class
/// goes by `then` alone.
#[must_use]
pub fn rule(i: usize, rule: &ResponsePlan, answer: &Answer, ctx: &Ctx<'_>) -> Ruling {
    let Answer { status, headers, body, .. } = answer;
    let message = format!("{}; rule {} of [[response]] says {}", said(*status), i + 1, rule.then.as_str());
    let reason = || rule.reason.clone().map_or_else(|| Reason::of_status(*status), Reason::Rule);
    let trouble = |class, repeat| {
        let message = message.clone();
        Trouble { message, ..of_answer(*status, headers, (reason(), class), repeat, ctx) }
    };
    match rule.then {
        Then::Accept => Ruling::Judged(Judgement::Accept),
        Then::Retry => Ruling::Judged(Judgement::Trouble(trouble(Class::Transient, Repeat::Backoff))),
        Then::Limited => {
            let secondary = body.len() < 64 << 10 && String::from_utf8_lossy(body).to_ascii_lowercase().contains(SECONDARY);
            let wait = wait_of(headers, body, secondary, ctx.wall);
            Ruling::Judged(refused(reason(), false, wait, message, ctx))
        }
        Then::Skip => Ruling::Judged(Judgement::Trouble(trouble(Class::Permanent, Repeat::Never))),
        Then::Stop => Ruling::Stop(trouble(Class::Permanent, Repeat::Never)),
        Then::EndOfPages => Ruling::EndOfPages,
        Then::RestartPages => Ruling::RestartPages(trouble(Class::Permanent, Repeat::Never)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{Case, ans};
    use super::*;
    use crate::model::Outcome;
    use crate::retry::WaitFrom;
    use http::Method;
    use std::time::Duration;

    fn ruled(case: &Case, then: Then, reason: Option<&str>, outcome: Outcome) -> Ruling {
        let plan = ResponsePlan { then, reason: reason.map(str::to_owned), ..ResponsePlan::default() };
        let Outcome::Answer(answer) = outcome else { unreachable!() };
        case.ctx(|ctx| rule(1, &plan, &answer, ctx))
    }

    fn get() -> Case {
        Case::of(Method::GET)
    }

    fn trouble(ruling: Ruling) -> Trouble {
        match ruling {
            Ruling::Judged(Judgement::Trouble(t)) | Ruling::Stop(t) | Ruling::RestartPages(t) => t,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_reason_is_the_rules_or_the_statuss_and_the_class_goes_by_then() {
        let t = trouble(ruled(&get(), Then::Skip, Some("gone-for-good"), ans(200, &[], "")));
        assert_eq!((t.reason, t.class, t.repeat), (Reason::Rule("gone-for-good".into()), Class::Permanent, Repeat::Never));
        assert_eq!(t.message, "the server answered 200 (OK); rule 2 of [[response]] says skip");
        let t = trouble(ruled(&get(), Then::Skip, None, ans(503, &[], "")));
        assert_eq!((t.reason, t.class, t.repeat), (Reason::Http(503), Class::Permanent, Repeat::Never));
        let t = trouble(ruled(&get(), Then::Retry, Some("half-baked"), ans(404, &[], "")));
        assert_eq!((t.reason, t.class, t.repeat), (Reason::Rule("half-baked".into()), Class::Transient, Repeat::Backoff));
        assert_eq!(trouble(ruled(&get(), Then::Stop, Some("closed"), ans(200, &[], ""))).reason.code(), "closed");
        assert_eq!(trouble(ruled(&get(), Then::RestartPages, None, ans(403, &[], ""))).reason, Reason::Forbidden);
        // A reason of gleaner's own is the rule's all the same: it starts nothing that the true one would.
        let t = trouble(ruled(&get(), Then::Skip, Some("local-resource"), ans(200, &[], "")));
        assert_eq!((t.reason.code().as_ref(), t.reason), ("local-resource", Reason::Rule("local-resource".into())));
    }

    #[test]
    fn another_try_comes_no_earlier_than_asked_and_only_where_it_may() {
        let again = |case: &Case, status| trouble(ruled(case, Then::Retry, None, ans(status, &[("retry-after", "7")], "")));
        let t = again(&get(), 200);
        assert_eq!((t.floor, t.resend), (Some(Duration::from_secs(7)), true));
        assert!(!again(&Case::of(Method::POST), 200).resend);
        assert!(again(&Case::of(Method::POST), 421).resend, "it was not processed");
    }

    #[test]
    fn a_refusal_reads_what_any_refusal_says() {
        let said = |headers: &[(&'static str, &str)], body: &str| match ruled(&get(), Then::Limited, Some("quota"), ans(200, headers, body))
        {
            Ruling::Judged(Judgement::Refused { reason, asked, from, by_text: false, .. }) => {
                assert_eq!(reason, Reason::Rule("quota".into()));
                (asked.map(|d| d.as_secs()), from)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(said(&[], ""), (None, WaitFrom::Backoff));
        assert_eq!(said(&[("retry-after", "9")], ""), (Some(9), WaitFrom::RetryAfter));
        assert_eq!(said(&[("retry-after", "0")], ""), (None, WaitFrom::Backoff));
        assert_eq!(said(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "30")], ""), (Some(30), WaitFrom::Reset));
        assert_eq!(said(&[], "{\"retry_after\": 12}"), (Some(12), WaitFrom::RetryAfter));
        assert_eq!(said(&[], "a Secondary rate limit").0, Some(60));
        let post = ruled(&Case::of(Method::POST), Then::Limited, None, ans(200, &[], ""));
        assert!(matches!(post, Ruling::Judged(Judgement::Refused { reason: Reason::Http(200), .. })), "whatever the method");
        let mut hop = Case::of(Method::POST);
        hop.method = Method::GET;
        assert_eq!(trouble(ruled(&hop, Then::Limited, None, ans(200, &[], ""))).reason, Reason::MaybeSent, "carried out before the hop");
    }

    #[test]
    fn what_the_table_would_say_does_not_matter() {
        let challenge = || ans(403, &[("cf-mitigated", "challenge")], "");
        assert_eq!(ruled(&get(), Then::Accept, None, challenge()), Ruling::Judged(Judgement::Accept));
        assert_eq!(ruled(&get(), Then::Accept, None, ans(429, &[("retry-after", "9")], "")), Ruling::Judged(Judgement::Accept));
        assert_eq!(ruled(&get(), Then::EndOfPages, None, ans(404, &[], "")), Ruling::EndOfPages);
        let t = trouble(ruled(&get(), Then::Retry, None, ans(429, &[], "")));
        assert_eq!((t.reason, t.repeat), (Reason::Http(429), Repeat::Backoff));
    }
}
