use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use crate::endpoint::Endpoint;

use super::*;

/// A device whose registers all hold how often it was asked. It refuses those from 0x8000 on, keeps silent
/// about those from 0x6000 on, and gives at most 70.
#[derive(Debug, Default)]
struct Counting {
    asked: AtomicU16,
    away: AtomicBool,
}

impl RegisterSource for Arc<Counting> {
    async fn read_registers(
        &self,
        _: u8,
        function: u8,
        address: u16,
        count: u16,
        _: Duration,
    ) -> Result<Vec<u16>, MeterError> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        sleep(Duration::from_millis(20)).await;
        if self.away.load(Ordering::SeqCst) {
            return Err(MeterError::Closed);
        }
        if (0x6000..0x8000).contains(&address) {
            let endpoint = Endpoint::Tcp("127.0.0.1:502".parse().unwrap());
            return Err(MeterError::Silent { endpoint, unit: 1, waited_ms: 10 });
        }
        if address >= 0x8000 || count > 70 {
            return Err(MeterError::Refused { function, register: address, code: 2 });
        }
        Ok(vec![number; usize::from(count)])
    }
}

fn share(age_max: Duration, profile: Option<&str>) -> (Arc<Counting>, Share<Arc<Counting>>) {
    let source = Arc::new(Counting::default());
    let profile = profile.map(|name| Profile::by_name(name).unwrap());
    let config = ShareConfig { age_max, ..ShareConfig::new(BTreeMap::from([(1, profile)])) };
    (Arc::clone(&source), Share::new(source, config))
}

fn input(address: u16, count: u16) -> Read {
    Read { function: 4, address, count }
}

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn many_who_ask_at_once_cost_the_device_one_read() {
    let (source, share) = share(LONG, None);
    let mut clients = JoinSet::new();
    for _ in 0..50 {
        let inner = Arc::clone(&share.inner);
        clients.spawn(async move { inner.registers(1, input(0, 4)).await });
    }
    while let Some(answer) = clients.join_next().await {
        assert_eq!(answer.unwrap(), Ok(vec![1; 4]));
    }
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_single_value_is_cut_out_of_its_whole_block_so_that_values_belong_together() {
    let (source, share) = share(LONG, Some("abb-b23"));
    let read = async |address, count| share.inner.registers(1, Read { function: 3, address, count }).await;
    assert_eq!(read(0x5B14, 2).await, Ok(vec![1; 2]));
    assert_eq!(read(0x5B2C, 1).await, Ok(vec![1; 1]));
    assert_eq!(read(0x5B00, 6).await, Ok(vec![1; 6]));
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    // Half inside, half outside: one read of its own, not a patchwork.
    assert_eq!(read(0x5B2C, 4).await, Ok(vec![2; 4]));
}

#[tokio::test]
async fn a_device_that_lacks_a_part_of_the_block_is_asked_for_the_value_alone() {
    let (source, share) = share(LONG, Some("eastron-sdm630"));
    assert_eq!(share.inner.registers(1, input(0x34, 2)).await, Ok(vec![2; 2]));
    assert_eq!(share.inner.registers(1, input(0x46, 2)).await, Ok(vec![3; 2]));
    assert_eq!(source.asked.load(Ordering::SeqCst), 3, "the block itself is asked for once");
}

#[tokio::test]
async fn what_is_older_than_the_limit_is_read_again_and_never_sent() {
    let (source, share) = share(Duration::from_millis(50), None);
    assert_eq!(share.inner.registers(1, input(0, 2)).await, Ok(vec![1; 2]));
    sleep(Duration::from_millis(60)).await;
    assert_eq!(share.inner.registers(1, input(0, 2)).await, Ok(vec![2; 2]));
    source.away.store(true, Ordering::SeqCst);
    sleep(Duration::from_millis(60)).await;
    assert_eq!(share.inner.registers(1, input(0, 2)).await, Err(exception::NO_ANSWER));
    source.away.store(false, Ordering::SeqCst);
    sleep(Duration::from_millis(60)).await;
    assert_eq!(share.inner.registers(1, input(0, 2)).await, Ok(vec![4; 2]));
}

#[tokio::test]
async fn a_refusal_of_the_device_is_passed_on_and_asked_once() {
    let (source, share) = share(LONG, None);
    for _ in 0..3 {
        assert_eq!(share.inner.registers(1, input(0x9000, 2)).await, Err(exception::ILLEGAL_ADDRESS));
    }
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    assert_eq!(share.inner.registers(2, input(0, 2)).await, Err(exception::NO_PATH));
}

#[tokio::test]
async fn memory_is_bounded_whatever_clients_ask_for() {
    let (_, share) = share(LONG, None);
    let fresh = Known { asked: Instant::now(), answer: Ok(vec![0; 2]), stands: LONG, answered: true };
    for address in 0..1_000 {
        share.inner.remember(1, input(address, 2), fresh.clone());
    }
    assert_eq!(share.inner.known().len(), BLOCKS_MAX);
    let answer = share.inner.registers(1, input(0x5000, 2)).await;
    assert_eq!(answer, Ok(vec![1; 2]), "a full memory still answers");
}

#[tokio::test]
async fn a_register_that_the_device_does_not_have_is_asked_for_once_in_minutes() {
    let (source, share) = share(Duration::from_millis(20), None);
    for _ in 0..4 {
        assert_eq!(share.inner.registers(1, input(0x9000, 2)).await, Err(exception::ILLEGAL_ADDRESS));
        sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    let asked = share.inner.known().values().next().map(|known| known.stands);
    assert_eq!(asked, Some(REFUSAL_MAX));
}

#[tokio::test]
async fn a_span_about_which_the_device_keeps_silent_is_asked_for_ever_less_often() {
    let (_, share) = share(Duration::from_secs(1), None);
    let silent = input(0x6000, 2);
    let mut stands = Vec::new();
    for _ in 0..10 {
        let known = share.inner.ask(1, silent).await;
        assert_eq!(known.answer, Err(exception::NO_ANSWER));
        stands.push(known.stands.as_secs());
    }
    assert_eq!(stands, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    assert!(share.inner.fresh(1, silent, silent).is_some(), "until then it is not asked for");
}

#[tokio::test]
async fn a_span_that_the_device_has_answered_comes_back_with_the_device() {
    let (source, share) = share(Duration::from_secs(1), None);
    let span = input(0x9000, 2);
    let had = Known { asked: Instant::now(), answer: Ok(vec![7; 2]), stands: Duration::ZERO, answered: true };
    share.inner.remember(1, span, had);
    for number in 1..=3 {
        let known = share.inner.ask(1, span).await;
        assert_eq!((known.answer, known.stands), (Err(exception::ILLEGAL_ADDRESS), Duration::from_secs(1)));
        assert_eq!(source.asked.load(Ordering::SeqCst), number);
    }
}

#[tokio::test]
async fn in_a_quiet_time_the_device_is_asked_nothing_and_what_is_fresh_is_still_given() {
    let (source, quiet) = (Arc::new(Counting::default()), Arc::new(AtomicBool::new(false)));
    let its = Arc::clone(&quiet);
    let config = ShareConfig {
        age_max: LONG,
        quiet: Some(Quiet::when(move || its.load(Ordering::SeqCst))),
        ..ShareConfig::new(BTreeMap::from([(1, None)]))
    };
    let share = Share::new(Arc::clone(&source), config);
    assert_eq!(share.inner.registers(1, input(0, 2)).await, Ok(vec![1; 2]));
    quiet.store(true, Ordering::SeqCst);
    assert_eq!(share.inner.registers(1, input(0, 2)).await, Ok(vec![1; 2]));
    assert_eq!(share.inner.registers(1, input(8, 2)).await, Err(exception::BUSY));
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    quiet.store(false, Ordering::SeqCst);
    assert_eq!(share.inner.registers(1, input(8, 2)).await, Ok(vec![2; 2]), "busy is not remembered");
}

#[tokio::test]
async fn a_question_that_waited_into_the_quiet_time_is_not_put_to_the_device() {
    let (source, quiet) = (Arc::new(Counting::default()), Arc::new(AtomicBool::new(false)));
    let its = Arc::clone(&quiet);
    let config = ShareConfig {
        quiet: Some(Quiet::when(move || its.load(Ordering::SeqCst))),
        ..ShareConfig::new(BTreeMap::from([(1, None)]))
    };
    let share = Share::new(Arc::clone(&source), config);
    let turn = share.inner.asking.acquire().await.unwrap();
    let begun = async {
        tokio::task::yield_now().await;
        quiet.store(true, Ordering::SeqCst);
        drop(turn);
    };
    let (answer, ()) = tokio::join!(share.inner.registers(1, input(0, 2)), begun);
    assert_eq!((answer, source.asked.load(Ordering::SeqCst)), (Err(exception::BUSY), 0));
}

#[tokio::test]
async fn what_a_client_asked_is_known_even_if_it_was_cut_off_meanwhile() {
    let (source, share) = share(LONG, None);
    let inner = Arc::clone(&share.inner);
    let client = tokio::spawn(async move { inner.registers(1, input(0x6000, 2)).await });
    while source.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    assert_eq!(share.inner.registers(1, input(0x6000, 2)).await, Err(exception::NO_ANSWER));
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
}
