//! The terminal: keys in, frames out; or one frame as text.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use crate::model::{Answer, Model};
use crate::neighbourhood::Target;
use crate::poll::{self, Seen};
use crate::{Size, TuiError, screen};

/// Ages grow and the terminal may be resized: a frame at least so often, and never more than four a second.
const FRAME_PERIOD: Duration = Duration::from_millis(250);

/// How long one frame waits for the nodes.
const ONCE_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers that wait to be taken up.
const ANSWERS_WAITING: usize = 64;

/// Asks every node once and draws one frame as text.
pub async fn once(targets: Vec<Target>, market: bool, size: Size) -> anyhow::Result<String> {
    let mut model = Model::new(targets.iter().map(|target| target.label.clone()));
    model.market = market;
    let now = Instant::now();
    let mut first_failure = None;
    for (index, mut answer) in join_all(targets.iter().map(ask_once)).await.into_iter().enumerate() {
        match &mut answer {
            // The intervals of the highest node stand.
            Ok(answer) if answer.status.height < model.highest() => answer.intervals = None,
            Ok(_) => {}
            Err(reason) => first_failure = first_failure.or_else(|| Some(reason.clone())),
        }
        model.take(index, answer, now);
    }
    match (model.leader(), first_failure) {
        (None, Some(first)) => Err(TuiError::Unreachable { first }.into()),
        _ => frame(&model, size, now),
    }
}

async fn ask_once(target: &Target) -> Result<Answer, String> {
    match tokio::time::timeout(ONCE_TIMEOUT, poll::ask(target, &mut Seen::default(), true)).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ONCE_TIMEOUT.as_secs())),
    }
}

/// One frame as lines of text without the blanks at their ends.
pub fn frame(model: &Model, size: Size, now: Instant) -> anyhow::Result<String> {
    let mut terminal = Terminal::new(TestBackend::new(size.columns, size.rows))?;
    terminal.draw(|frame| screen::draw(frame, model, now, false))?;
    Ok(text(terminal.backend().buffer()))
}

fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in buffer.content().chunks(usize::from(buffer.area.width).max(1)) {
        let mut covered = 0;
        let mut line = String::new();
        for cell in row {
            // The cell behind a wide character belongs to it.
            if covered == 0 {
                line.push_str(cell.symbol());
                covered = ratatui::text::Span::raw(cell.symbol()).width().saturating_sub(1);
            } else {
                covered -= 1;
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Shows the console until the user quits.
pub async fn interactive(targets: Vec<Target>, market: bool, colour: bool) -> anyhow::Result<()> {
    if !std::io::stdout().is_terminal() {
        let message = "the console needs a terminal; --once prints one frame without".to_owned();
        return Err(TuiError::Usage(message).into());
    }
    let mut model = Model::new(targets.iter().map(|target| target.label.clone()));
    model.market = market;
    let leader = Arc::new(AtomicUsize::new(0));
    let (sender, mut answers) = mpsc::channel(ANSWERS_WAITING);
    poll::start(targets, &leader, &sender);
    let mut keys = keys();
    // Sets the terminal up and puts it back at the end, also after a panic.
    let mut terminal = ratatui::try_init()?;
    let mut frames = tokio::time::interval(FRAME_PERIOD);
    let ended = loop {
        tokio::select! {
            Some((index, answer)) = answers.recv() => {
                model.take(index, answer, Instant::now());
                leader.store(model.leader().unwrap_or(0), Ordering::Relaxed);
            }
            key = keys.recv() => match key {
                Some(Ok(event)) if !handle(&mut model, &event) => break Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(()),
            },
            _ = frames.tick() => {
                if let Err(error) = terminal.draw(|frame| screen::draw(frame, &model, Instant::now(), colour)) {
                    break Err(error.into());
                }
            }
        }
    };
    ratatui::try_restore()?;
    ended
}

/// Terminal events, read on a thread of their own because reading blocks.
fn keys() -> mpsc::Receiver<std::io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(ANSWERS_WAITING);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let event = match event::poll(FRAME_PERIOD) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let failed = event.is_err();
            if sender.blocking_send(event).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Does what a key asks for; false to quit.
fn handle(model: &mut Model, event: &Event) -> bool {
    let Event::Key(key) = event else { return true };
    if key.kind == KeyEventKind::Release {
        return true;
    }
    let now = Instant::now();
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Esc if model.help => model.help = false,
        KeyCode::Char('q') => return false,
        KeyCode::Char('?') => model.help = !model.help,
        KeyCode::Char('j') | KeyCode::Down => model.move_selection(1, now),
        KeyCode::Char('k') | KeyCode::Up => model.move_selection(-1, now),
        KeyCode::PageDown => model.move_selection(10, now),
        KeyCode::PageUp => model.move_selection(-10, now),
        KeyCode::Char('g') | KeyCode::Home => model.move_selection(isize::MIN, now),
        KeyCode::Char('G') | KeyCode::End => model.move_selection(isize::MAX, now),
        KeyCode::Char('s') => model.sort = model.sort.next(),
        KeyCode::Char('m') => model.market = !model.market,
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    fn press(model: &mut Model, code: KeyCode) -> bool {
        handle(model, &Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    #[test]
    fn keys_move_sort_help_and_quit() {
        let mut model = Model::new(["a", "b", "c"].map(str::to_owned));
        for (code, selected) in [('j', 1), ('j', 2), ('j', 2), ('k', 1), ('G', 2), ('g', 0), ('k', 0)] {
            assert!(press(&mut model, KeyCode::Char(code)));
            assert_eq!(model.selected, selected, "{code}");
        }
        press(&mut model, KeyCode::Char('s'));
        assert_eq!(model.sort.word(), "state");
        for shown in [true, false] {
            press(&mut model, KeyCode::Char('m'));
            assert_eq!(model.market, shown);
        }
        press(&mut model, KeyCode::Char('?'));
        assert!(model.help);
        assert!(press(&mut model, KeyCode::Esc) && !model.help);
        assert!(!press(&mut model, KeyCode::Char('q')));
        assert!(!handle(&mut model, &Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL))));
    }

    #[test]
    fn no_key_makes_the_console_fail() {
        let mut model = Model::new(std::iter::empty());
        for code in
            (0_u8..128).map(char::from).map(KeyCode::Char).chain([KeyCode::Down, KeyCode::End, KeyCode::F(1)])
        {
            press(&mut model, code);
            frame(&model, Size { columns: 80, rows: 24 }, Instant::now()).unwrap();
        }
    }
}
