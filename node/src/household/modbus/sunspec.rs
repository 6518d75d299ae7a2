//! A battery behind an inverter with the `SunSpec` storage model, 124.
//!
//! The model holds the battery within a window: it takes at most `InWRte` and gives at most `OutWRte`, both in percent of
//! `WChaMax`; below zero they turn round and become the least of the other. Within the window the inverter follows the
//! home's own meter. That is just what the agent's commands say.
//!
//! Source: SunSpec Alliance, model 124 "Storage" (`models/json/model_124.json`). That a rate below zero forces the other way, and that both count in
//! percent of `WChaMax`, is how Fronius describes and owners use it.

use agent::Control;

use super::error::ModbusError;
use super::line::{HOLDING, Line, WRITE_MANY};
use super::number::power_of_ten;

/// Where the map of a device may begin.
const BASES: [u16; 3] = [40_000, 0, 50_000];
/// "`SunS`".
const MARKER: [u16; 2] = [0x5375, 0x6E53];
/// The id after the last model.
const END: u16 = 0xFFFF;
/// No real map has more models; a map that goes round in circles ends here.
const MODELS_MAX: usize = 64;
/// Basic storage controls.
const STORAGE: u16 = 124;
/// Registers of the model behind its header.
const LENGTH: u16 = 24;
/// "Not implemented" of an unsigned number.
const NONE_U16: u16 = 0xFFFF;
/// `SunSpec` scale factors.
const SCALES: std::ops::RangeInclusive<i16> = -10..=10;

// Offsets from the model's header.
const W_CHA_MAX: usize = 2;
const STOR_CTL_MOD: u16 = 5;
const MIN_RSV_PCT: usize = 7;
const CHA_STATE: usize = 8;
const OUT_W_RTE: u16 = 12;
const IN_W_RTE: usize = 13;
const RVRT_TMS: u16 = 15;
const CHA_GRI_SET: usize = 17;
const W_CHA_MAX_SF: usize = 18;
const MIN_RSV_PCT_SF: usize = 21;
const CHA_STATE_SF: usize = 22;
const IN_OUT_W_RTE_SF: usize = 25;

/// Bits of `StorCtl_Mod`: both limits hold.
const BOTH_LIMITS: u16 = 0b11;

/// The most the battery takes and gives, W, as the configuration says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rating {
    pub(super) taking: i64,
    pub(super) giving: i64,
}

/// The driver: what it found on the device.
#[derive(Debug)]
pub(super) struct Sunspec {
    revert_s: u16,
    rating: Rating,
    /// Percent below which the plan does not go.
    reserve_percent: u32,
    /// Header of the model, once found.
    header: Option<u16>,
    /// The revert time that was there before the node's.
    revert_before: Option<u16>,
    warned: bool,
}

/// The most it may take and give, W; below zero: the least of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    taking: i64,
    giving: i64,
}

/// Both rates as they stand in the registers: giving, taking.
type Rates = [i16; 2];

impl Sunspec {
    pub(super) fn new(revert_s: u16, rating: Rating, reserve_percent: u32) -> Self {
        Self { revert_s, rating, reserve_percent, header: None, revert_before: None, warned: false }
    }

    /// How long the inverter goes on without hearing from the node, s; 0: for ever.
    pub(super) fn revert_s(&self) -> u16 {
        self.revert_s
    }

    /// Does this.
    pub(super) async fn tell(&mut self, line: &mut Line, control: Control) -> Result<(), ModbusError> {
        let block = self.block(line).await?;
        match window(control, &self.rating)? {
            None => self.release(line, &block).await,
            Some(window) => {
                let rates = block.rates(line, window, &self.rating)?;
                self.hold(line, &block, rates).await
            }
        }
    }

    /// What is in the battery, in hundredths of a percent of its capacity.
    pub(super) async fn charge(&mut self, line: &mut Line) -> Result<u32, ModbusError> {
        let block = self.block(line).await?;
        let scale = block.scale(line, CHA_STATE_SF)?;
        let raw = block.value(line, CHA_STATE)?;
        let hundredths = scaled(i128::from(raw) * 100, scale);
        if !(0..=10_000).contains(&hundredths) {
            return Err(block.impossible(line, CHA_STATE, raw.into(), (0, 100)));
        }
        u32::try_from(hundredths).map_err(|_| line.absent(block.at(CHA_STATE)))
    }

    /// The model as it stands now; looked for where it was, and anew if it is not there any more.
    async fn block(&mut self, line: &mut Line) -> Result<Block, ModbusError> {
        if let Some(header) = self.header.take() {
            match Block::read(line, header).await {
                Ok(block) if block.is_storage() => {
                    self.header = Some(header);
                    return Ok(block);
                }
                // Other models than before: the inverter was changed, or has new firmware.
                Ok(_) | Err(ModbusError::Refused { .. }) => {}
                Err(error) => {
                    self.header = Some(header);
                    return Err(error);
                }
            }
        }
        let header = find(line).await?;
        let block = Block::read(line, header).await?;
        self.header = Some(header);
        self.warn_once(line, &block);
        Ok(block)
    }

    /// Settings on the inverter that the plan does not know of.
    fn warn_once(&mut self, line: &Line, block: &Block) {
        if std::mem::replace(&mut self.warned, true) {
            return;
        }
        let (at, unit) = line.place();
        if block.word(CHA_GRI_SET) == 0 {
            tracing::warn!(%at, unit, "the inverter charges the battery from the sun only (ChaGriSet); permit charging from the grid in its menu where that is lawful, or plans that buy ahead cannot be carried out");
        }
        if let (Ok(scale), Ok(raw)) = (block.scale(line, MIN_RSV_PCT_SF), block.value(line, MIN_RSV_PCT))
            && scaled(raw.into(), scale) > self.reserve_percent.into()
        {
            tracing::warn!(%at, unit, reserve_percent = self.reserve_percent, "the inverter keeps a larger reserve (MinRsvPct) than the plan; write reserve_percent as high as that");
        }
    }

    /// Keeps the battery within a window: the revert time first, so that nothing that follows can outlive the node.
    async fn hold(&mut self, line: &mut Line, block: &Block, rates: Rates) -> Result<(), ModbusError> {
        let mode = block.value(line, STOR_CTL_MOD.into())?;
        if self.revert_s > 0 {
            self.arm(line, block).await?;
        } else if block.holds(rates, mode | BOTH_LIMITS) {
            return Ok(());
        }
        block.write(line, OUT_W_RTE, &rates.map(i16::cast_unsigned)).await?;
        block.write(line, STOR_CTL_MOD, &[mode | BOTH_LIMITS]).await?;
        let after = Block::read(line, block.header).await?;
        after.check_rates(line, rates)?;
        after.check_mode(line, mode | BOTH_LIMITS)
    }

    /// Sets the revert time and looks whether it is kept.
    async fn arm(&mut self, line: &mut Line, block: &Block) -> Result<(), ModbusError> {
        let before = block.word(RVRT_TMS.into());
        // What an earlier run of this node left behind was nobody's wish.
        let left_behind = before == self.revert_s || before == NONE_U16;
        self.revert_before.get_or_insert(if left_behind { 0 } else { before });
        block.write(line, RVRT_TMS, &[self.revert_s]).await?;
        let after = Block::read(line, block.header).await?;
        if after.word(RVRT_TMS.into()) == self.revert_s {
            return Ok(());
        }
        let (at, unit) = line.place();
        Err(ModbusError::NoRevert { at, unit })
    }

    /// Leaves the battery to the inverter. One that holds no limits is left as it is.
    async fn release(&mut self, line: &mut Line, block: &Block) -> Result<(), ModbusError> {
        let mode = block.value(line, STOR_CTL_MOD.into())?;
        if mode & BOTH_LIMITS != 0 {
            block.write(line, STOR_CTL_MOD, &[mode & !BOTH_LIMITS]).await?;
            let all = block.whole(line)?;
            block.write(line, OUT_W_RTE, &[all, all].map(i16::cast_unsigned)).await?;
            let after = Block::read(line, block.header).await?;
            after.check_mode(line, mode & !BOTH_LIMITS)?;
        }
        // The time stays on the device, and would end the commands of programs that do not repeat them.
        let before = self.revert_before.or((block.word(RVRT_TMS.into()) == self.revert_s).then_some(0));
        if self.revert_s > 0
            && let Some(before) = before
            && block.word(RVRT_TMS.into()) != before
        {
            block.write(line, RVRT_TMS, &[before]).await?;
        }
        self.revert_before = None;
        Ok(())
    }
}

/// The window that a command means; `None`: none.
fn window(control: Control, rating: &Rating) -> Result<Option<Window>, ModbusError> {
    let Rating { taking, giving } = *rating;
    let (taking, giving) = match control {
        Control::Charge(watts) => (i64::from(watts), -i64::from(watts)),
        Control::Discharge(watts) => (-i64::from(watts), i64::from(watts)),
        Control::ChargeAtLeast(watts) => (taking, -i64::from(watts)),
        Control::ChargeAtMost(watts) => (i64::from(watts), giving),
        Control::DischargeAtLeast(watts) => (-i64::from(watts), giving),
        Control::DischargeAtMost(watts) => (taking, i64::from(watts)),
        Control::Release(_) => return Ok(None),
        other => return Err(ModbusError::Foreign(other)),
    };
    Ok(Some(Window { taking, giving }))
}

/// A number times 10 to a scale factor, rounded towards zero.
fn scaled(value: i128, scale: i16) -> i128 {
    let factor = power_of_ten(u32::from(scale.unsigned_abs()));
    if scale < 0 { value / factor } else { value * factor }
}

/// The model's registers as read at once, header included.
struct Block {
    header: u16,
    words: Vec<u16>,
}

impl Block {
    async fn read(line: &mut Line, header: u16) -> Result<Self, ModbusError> {
        let words = line.read(HOLDING, header, LENGTH + 2).await?;
        Ok(Self { header, words })
    }

    fn is_storage(&self) -> bool {
        self.word(0) == STORAGE && self.word(1) >= LENGTH && self.word(1) != NONE_U16
    }

    /// The block is read whole: an offset beyond it is no value.
    fn word(&self, offset: usize) -> u16 {
        self.words.get(offset).copied().unwrap_or(NONE_U16)
    }

    fn at(&self, offset: usize) -> u16 {
        self.header.saturating_add(u16::try_from(offset).unwrap_or(u16::MAX))
    }

    fn value(&self, line: &Line, offset: usize) -> Result<u16, ModbusError> {
        let word = self.word(offset);
        if word == NONE_U16 { Err(line.absent(self.at(offset))) } else { Ok(word) }
    }

    fn scale(&self, line: &Line, offset: usize) -> Result<i16, ModbusError> {
        let scale = self.word(offset).cast_signed();
        if SCALES.contains(&scale) { Ok(scale) } else { Err(line.absent(self.at(offset))) }
    }

    fn impossible(&self, line: &Line, offset: usize, value: i64, (least, most): (i64, i64)) -> ModbusError {
        let (at, unit) = line.place();
        ModbusError::Impossible { at, unit, register: self.at(offset), value, least, most }
    }

    /// What 100 % are in the registers of the rates.
    fn whole(&self, line: &Line) -> Result<i16, ModbusError> {
        let scale = self.scale(line, IN_OUT_W_RTE_SF)?;
        let whole = scaled(100, -scale);
        let usable = i16::try_from(whole).ok().filter(|whole| *whole > 0);
        usable.ok_or_else(|| self.impossible(line, IN_OUT_W_RTE_SF, scale.into(), (-2, 2)))
    }

    /// The rates of a window: never beyond it, nor beyond what the inverter says it can do.
    fn rates(&self, line: &Line, window: Window, rating: &Rating) -> Result<Rates, ModbusError> {
        let whole = self.whole(line)?;
        let scale = self.scale(line, W_CHA_MAX_SF)?;
        let raw = self.value(line, W_CHA_MAX)?;
        if raw == 0 {
            return Err(self.impossible(line, W_CHA_MAX, 0, (1, NONE_U16.into())));
        }
        let most = i64::try_from(scaled(raw.into(), scale)).unwrap_or(i64::MAX);
        let rate = |watts: i64, rated: i64| {
            // A bound that is no wish but the rating is as wide as the inverter lets it be.
            let watts = if watts == rated { watts.min(most) } else { watts };
            if watts.abs() > most {
                return Err(ModbusError::BeyondInverter { watts: watts.abs(), most });
            }
            let factor = power_of_ten(u32::from(scale.unsigned_abs()));
            let (up, down) = if scale < 0 { (factor, 1) } else { (1, factor) };
            let rate = i128::from(watts) * i128::from(whole) * up / (i128::from(raw) * down);
            Ok(i16::try_from(rate).unwrap_or(if watts < 0 { -whole } else { whole }))
        };
        Ok([rate(window.giving, rating.giving)?, rate(window.taking, rating.taking)?])
    }

    async fn write(&self, line: &mut Line, offset: u16, words: &[u16]) -> Result<(), ModbusError> {
        line.write(WRITE_MANY, self.header.saturating_add(offset), words).await
    }

    fn holds(&self, rates: Rates, mode: u16) -> bool {
        self.rates_now() == rates && self.word(STOR_CTL_MOD.into()) == mode
    }

    fn rates_now(&self) -> Rates {
        [usize::from(OUT_W_RTE), IN_W_RTE].map(|offset| self.word(offset).cast_signed())
    }

    /// Some inverters keep whole percents: what differs by less than one is kept.
    fn check_rates(&self, line: &Line, wrote: Rates) -> Result<(), ModbusError> {
        let percent = i32::from(self.whole(line)?) / 100;
        let now = self.rates_now();
        let is_near = |(wrote, now): (&i16, &i16)| {
            i32::from(*wrote).abs_diff(i32::from(*now)) <= percent.unsigned_abs()
        };
        if wrote.iter().zip(&now).all(is_near) {
            return Ok(());
        }
        let [wrote, now] = [wrote, now].map(|rates| rates.map(i16::cast_unsigned));
        Err(line.not_kept(self.at(OUT_W_RTE.into()), &wrote, &now))
    }

    fn check_mode(&self, line: &Line, wrote: u16) -> Result<(), ModbusError> {
        let now = self.word(STOR_CTL_MOD.into());
        let kept = now == wrote;
        if kept { Ok(()) } else { Err(line.not_kept(self.at(STOR_CTL_MOD.into()), &[wrote], &[now])) }
    }
}

/// Finds the header of the storage model.
async fn find(line: &mut Line) -> Result<u16, ModbusError> {
    let (at, unit) = line.place();
    for base in BASES {
        if pair(line, base).await? == Some(MARKER) {
            let found = walk(line, base + 2).await?;
            return found.ok_or(ModbusError::NoStorage { at, unit });
        }
    }
    Err(ModbusError::NoSunspec { at, unit })
}

async fn walk(line: &mut Line, first: u16) -> Result<Option<u16>, ModbusError> {
    let mut header = first;
    for _ in 0..MODELS_MAX {
        let Some([id, length]) = pair(line, header).await? else { return Ok(None) };
        match id {
            END => return Ok(None),
            STORAGE if length >= LENGTH => return Ok(Some(header)),
            _ => {}
        }
        // A map that leaves the register space has no further model.
        let next = header.checked_add(2).and_then(|body| body.checked_add(length));
        let Some(next) = next else { return Ok(None) };
        header = next;
    }
    Ok(None)
}

/// Two registers, or `None` where the device has none: looking is not an error.
async fn pair(line: &mut Line, address: u16) -> Result<Option<[u16; 2]>, ModbusError> {
    match line.read(HOLDING, address, 2).await {
        Ok(words) => Ok(words.try_into().ok()),
        Err(ModbusError::Refused { code: 1..=4, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
