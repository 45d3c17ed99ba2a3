//! Progress of lessons.

use academy_rt::domain::progress::Status;
use academy_rt::store::LessonFilter;

use super::*;

pub async fn reports_are_merged_into_versions(bed: Bed) {
    let me = user("7");
    let first = bed.store.sync_progress(me.clone(), vec![report("1", 40.0, 10, None)], Timestamp(5)).await.unwrap();
    assert_eq!((first[0].progress.version, first[0].merged, first[0].duplicate), (1, false, false));
    let late = Update { base_version: Some(0), ..report("1", 20.0, 5, None) };
    let second = &bed.store.sync_progress(me.clone(), vec![late], Timestamp(6)).await.unwrap()[0];
    assert_eq!((second.progress.progress.value(), second.progress.time_spent, second.merged), (40.0, 15, true));
    let third = &bed.store.sync_progress(me.clone(), vec![report("1", 100.0, 0, None)], Timestamp(7)).await.unwrap()[0];
    assert_eq!((third.progress.status, third.progress.completed_at), (Status::Completed, Some(Timestamp(7))));
    let versions = bed.store.progress_history(me.clone(), lesson("1")).await.unwrap();
    assert_eq!(versions.iter().map(|one| one.version).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(versions[2], third.progress);
    let heard = bed.heard.all();
    assert_rising(&heard);
    assert_eq!(heard.len(), 3);
    assert!(bed.store.sync_progress(me, Vec::new(), Timestamp(8)).await.unwrap().is_empty());
}

pub async fn a_user_has_so_many_lessons_at_most(mut bed: Bed) {
    let me = user("7");
    let of = |numbers: std::ops::Range<u64>| numbers.map(|n| report(&n.to_string(), 10.0, 1, None)).collect::<Vec<_>>();
    bed.store.sync_progress(me.clone(), of(0..LESSONS - 1), bed.now()).await.unwrap();
    let last_id = bed.store.last_id();
    let two_new = bed.store.sync_progress(me.clone(), of(LESSONS - 2..LESSONS + 1), bed.now()).await;
    assert_eq!(two_new, Err(StoreError::Refused(Refusal::TooManyLessons(me.clone(), LESSONS))));
    assert_eq!(bed.store.last_id(), last_id, "all or none");
    let twice = [of(LESSONS - 1..LESSONS), of(LESSONS - 1..LESSONS), of(0..1)].concat();
    bed.store.sync_progress(me.clone(), twice, bed.now()).await.unwrap();
    for _ in 0..2 {
        let one_more = bed.store.sync_progress(me.clone(), of(LESSONS..LESSONS + 1), bed.now()).await;
        assert_eq!(one_more, Err(StoreError::Refused(Refusal::TooManyLessons(me.clone(), LESSONS))));
        bed.store.sync_progress(me.clone(), of(5..6), bed.now()).await.unwrap();
        bed = bed.reopen().await;
    }
    bed.store.sync_progress(user("8"), of(LESSONS..LESSONS + 1), bed.now()).await.unwrap();
}

pub async fn versions_are_trimmed(bed: Bed) {
    for n in 0..10 {
        bed.store.sync_progress(user("7"), vec![report("1", f64::from(n), 1, None)], bed.now()).await.unwrap();
        bed.store.sync_progress(user("8"), vec![report("1", 1.0, 1, None)], bed.now()).await.unwrap();
    }
    let versions = bed.store.progress_history(user("7"), lesson("1")).await.unwrap();
    assert_eq!(versions.iter().map(|one| one.version).collect::<Vec<_>>(), [8, 9, 10]);
}

pub async fn a_batch_is_all_or_nothing(bed: Bed) {
    let batch = vec![report("1", 10.0, 1, Some("a")), report("2", 20.0, 1, Some("b")), report("1", 10.0, 1, Some("a"))];
    let answers = bed.store.sync_progress(user("7"), batch, bed.now()).await.unwrap();
    let shown: Vec<_> = answers.iter().map(|one| (one.progress.version, one.duplicate)).collect();
    assert_eq!(shown, [(1, false), (1, false), (1, true)], "a key counts within its own batch");
    let before = bed.store.last_id();
    let mixed = vec![report("3", 10.0, 1, Some("c")), report("4", 20.0, 1, Some("c"))];
    refused(bed.store.sync_progress(user("7"), mixed, bed.now()).await, Refusal::KeyReused);
    let mixed = vec![report("3", 10.0, 1, None), report("4", 20.0, 1, Some("a"))];
    refused(bed.store.sync_progress(user("7"), mixed, bed.now()).await, Refusal::KeyReused);
    let other = vec![report("1", 5.0, 1, Some("a"))];
    refused(bed.store.sync_progress(user("7"), other, bed.now()).await, Refusal::KeyReused);
    assert_eq!(bed.store.last_id(), before);
    assert!(bed.store.progress_history(user("7"), lesson("3")).await.unwrap().is_empty());
}

pub async fn a_repeated_report_adds_nothing(bed: Bed) {
    let once = || bed.store.sync_progress(user("7"), vec![report("1", 10.0, 5, Some("k"))], bed.now());
    let first = once().await.unwrap();
    bed.store.sync_progress(user("7"), vec![report("1", 50.0, 5, None)], bed.now()).await.unwrap();
    let again = once().await.unwrap();
    assert!(again[0].duplicate);
    assert_eq!(again[0].progress, first[0].progress, "the first answer, not what is known now");
    bed.clock.advance(DAY);
    let later = once().await.unwrap();
    assert_eq!((later[0].duplicate, later[0].progress.time_spent), (false, 15));
}

pub async fn since_gives_what_changed_behind_it(bed: Bed) {
    let sync = |of: &'static str, course: Option<&'static str>| {
        let update = Update { course: course.map(lesson), ..report(of, 1.0, 1, None) };
        bed.store.sync_progress(user("7"), vec![update], bed.now())
    };
    sync("1", Some("9")).await.unwrap();
    sync("2", None).await.unwrap();
    let ask = |filter: LessonFilter| bed.store.progress(user("7"), filter);
    let (items, cursor) = ask(LessonFilter::default()).await.unwrap();
    assert_eq!(items.iter().map(|one| one.lesson.canonical()).collect::<Vec<_>>(), ["1", "2"]);
    sync("1", None).await.unwrap();
    let (items, _) = ask(LessonFilter { since: Some(cursor), ..LessonFilter::default() }).await.unwrap();
    assert_eq!((items.len(), items[0].version, items[0].course.clone()), (1, 2, Some(lesson("9"))));
    let (items, now) = ask(LessonFilter::default()).await.unwrap();
    assert_eq!(items.iter().map(|one| one.lesson.canonical()).collect::<Vec<_>>(), ["2", "1"], "by the last change");
    let (items, _) = ask(LessonFilter { course: Some(lesson("9")), ..LessonFilter::default() }).await.unwrap();
    assert_eq!(items.len(), 1);
    let (items, _) = ask(LessonFilter { lesson: Some(lesson("2")), ..LessonFilter::default() }).await.unwrap();
    assert_eq!(items[0].lesson, lesson("2"));
    let one = LessonFilter { lesson: Some(lesson("2")), since: Some(cursor), ..LessonFilter::default() };
    assert!(ask(one).await.unwrap().0.is_empty());
    refused(ask(LessonFilter { since: Some(now + 1), ..LessonFilter::default() }).await, Refusal::Resync);
    let told = bed.store.replay(actor("7", &[]), Vec::new(), 0, 100).await.unwrap();
    assert_eq!(told.changes.len(), 2, "the latest of each lesson alone");
}

pub async fn progress_of_unknown_people_is_empty(bed: Bed) {
    assert!(bed.store.progress(user("9"), LessonFilter::default()).await.unwrap().0.is_empty());
    assert!(bed.store.progress_history(user("9"), lesson("1")).await.unwrap().is_empty());
}
