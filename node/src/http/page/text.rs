//! Every text of the household page, in every language.
//!
//! One line of the catalogue holds all languages of a text, so a missing translation does not compile. Places for
//! values are written `{0}`, `{1}`, …; a test compares them between the languages.

/// A language of the page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Language {
    /// Simplified Chinese.
    #[default]
    Chinese,
    /// English.
    English,
}

impl Language {
    /// Its BCP 47 tag.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en",
        }
    }

    /// The language of a tag such as `zh`, `zh-Hans-CN` or `en-GB`.
    #[must_use]
    pub fn from_tag(tag: &str) -> Option<Self> {
        match tag.trim().split('-').next()?.to_ascii_lowercase().as_str() {
            "zh" => Some(Self::Chinese),
            "en" => Some(Self::English),
            _ => None,
        }
    }

    /// The first language of an `Accept-Language` header that the page has; browsers put the preferred one first.
    #[must_use]
    pub fn accepted(header: &str) -> Option<Self> {
        header.split(',').take(16).find_map(|range| Self::from_tag(range.split(';').next()?))
    }

    /// Its texts.
    #[must_use]
    pub const fn texts(self) -> &'static Texts {
        match self {
            Self::Chinese => &CHINESE,
            Self::English => &ENGLISH,
        }
    }
}

/// Puts `values` into the places of `template`.
#[must_use]
pub fn fill(template: &str, values: &[&str]) -> String {
    values
        .iter()
        .enumerate()
        .fold(template.to_owned(), |text, (place, value)| text.replace(&format!("{{{place}}}"), value))
}

macro_rules! catalogue {
    ($($name:ident: $chinese:literal, $english:literal;)+) => {
        /// The texts of one language; each is its own description.
        #[derive(Debug)]
        pub struct Texts {
            $(pub $name: &'static str,)+
        }

        const CHINESE: Texts = Texts { $($name: $chinese,)+ };
        const ENGLISH: Texts = Texts { $($name: $english,)+ };

        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $chinese, $english),)+];
    };
}

catalogue! {
    today: "今天", "Today";
    home: "住户 {0}", "Home {0}";
    previous_day: "前一天", "Previous";
    next_day: "后一天", "Next";
    other_language: "English", "中文";
    as_of: "市场时间 {0}", "Market time {0}";
    headline_both: "卖给邻居 {0}，从邻居买入 {1}。", "Sold {0} to neighbours, bought {1} from them.";
    headline_sold: "卖给邻居 {0}。", "Sold {0} to neighbours.";
    headline_bought: "从邻居买入 {0}。", "Bought {0} from neighbours.";
    headline_none: "还没有和邻居交易。", "No trade with neighbours yet.";
    headline_saved: "比只用供电公司省了 {0}。", "Saved {0} against the supplier alone.";
    headline_extra: "比只用供电公司多付 {0}。", "Paid {0} more than with the supplier alone.";
    nothing_settled: "这一天还没有结算的时段。", "No interval of this day is settled yet.";
    first_settlement: "每个时段结束约 15 分钟后结算，数字会自动出现在这里。",
        "An interval is settled about 15 minutes after its end; the figures appear here by themselves.";
    earned: "收入", "Earned";
    paid: "支出", "Paid";
    saved: "节省", "Saved";
    how_computed: "怎么算出来的", "How computed";
    amount_today: "合计", "Together";
    you_received: "净收入 {0}", "You received {0}";
    you_paid: "净支出 {0}", "You paid {0}";
    supplier_alone: "同样的电量，只用供电公司", "The same energy with the supplier alone";
    with_neighbours: "和邻居一起", "With your neighbours";
    difference: "差额，即节省", "Difference: saved";
    line_forward_sold: "提前卖出", "Sold ahead";
    line_forward_bought: "提前买入", "Bought ahead";
    line_sold_neighbours: "卖给邻居", "Sold to neighbours";
    line_bought_neighbours: "从邻居买入", "Bought from neighbours";
    line_fees_neighbours: "邻居之间的电网费", "Grid fees, neighbours";
    line_sold_supplier: "卖给供电公司", "Sold to the supplier";
    line_bought_supplier: "从供电公司买入", "Bought from the supplier";
    line_fees_supplier: "供电公司的电网费", "Grid fees, supplier";
    line_correction: "更正", "Correction";
    energy_chart: "电量", "Energy";
    energy_chart_summary: "每个时段的电量（kWh）：卖出 {0}，买入 {1}。", "Energy per interval in kWh: sold {0}, bought {1}.";
    chart_sold: "卖出", "sold";
    chart_bought: "买入", "bought";
    neighbours: "邻居", "neighbours";
    supplier: "供电公司", "supplier";
    per_interval: "kWh / 时段", "kWh per interval";
    price_chart: "电价", "Price";
    price_chart_summary: "每千瓦时电价：从供电公司买 {0}，邻居之间 {1}，卖给供电公司 {2}。",
        "Price per kWh: from the supplier {0}, among neighbours {1}, to the supplier {2}.";
    price_supplier_charges: "供电公司收", "supplier charges";
    price_neighbours: "邻居之间", "among neighbours";
    price_supplier_pays: "供电公司付", "supplier pays";
    per_kwh: "每千瓦时", "per kWh";
    as_table: "数字表格", "Figures as a table";
    interval: "时段", "Interval";
    result: "结果", "Result";
    latest_interval: "最近结算的时段", "Latest settled interval";
    metered: "电表：从电网取 {0}，送入电网 {1}", "Meter: {0} taken from the grid, {1} given to it";
    no_reading: "这个时段没有电表读数", "No meter reading for this interval";
    in_block: "记入第 {0} 号区块", "In block {0}";
    now: "现在", "Now";
    drawing: "从电网取电", "drawing from the grid";
    feeding: "向电网送电", "feeding the grid";
    balanced: "与电网持平", "in balance with the grid";
    power_unknown: "功率未知", "power not known";
    age_seconds: "{0} 秒前", "{0} s ago";
    age_minutes: "{0} 分钟前", "{0} min ago";
    age_never: "还没有读到", "not read yet";
    house_uses: "家里用电", "The house uses";
    solar: "光伏 {0}", "solar {0}";
    battery_gives: "电池放电 {0}", "battery gives {0}";
    battery_takes: "电池充电 {0}", "battery takes {0}";
    car: "汽车 {0}", "car {0}";
    heat_pump: "热泵 {0}", "heat pump {0}";
    meter: "电表", "Meter";
    meter_good: "正常", "good";
    meter_uncertain: "读数存疑", "values uncertain";
    meter_silent: "没有应答：请检查电表的接线和电源", "no answer: check the meter's cable and power";
    meter_absent: "这个节点没有配置电表", "none is configured at this node";
    meter_starting: "正在连接", "connecting";
    meter_quantum: "计量步长 {0} Wh", "counts in steps of {0} Wh";
    meter_quality: "最近读数：{0}", "last reading: {0}";
    quality_good: "良好", "good";
    quality_estimated: "估算", "estimated";
    quality_gap: "缺口后的读数", "after a gap";
    assurance: "电表可信度", "Meter assurance";
    assurance_level: "{0} 级（最高 4 级）", "level {0} of 4";
    assurance_until: "评定截至 {0}", "as of {0}";
    assurance_old: "最近没有新的评定", "not stated lately";
    assurance_0: "还没有独立的佐证，或有相反的证据", "nothing independent stands behind it, or something contradicts it";
    assurance_1: "已登记电表的签名读数", "signed readings of the registered meter";
    assurance_2: "变压器总表与各户之和相符", "the transformer's meter agrees with the sum of the homes";
    assurance_3: "变压器总表和另一项独立证据相符", "the transformer's meter and one more independent finding agree";
    assurance_4: "所有证据至少连续 30 天相符", "all evidence has agreed for at least 30 days";
    account: "账户余额", "Account";
    account_claim: "欠供电公司 {0}", "Owed to the supplier: {0}";
    ledger: "账本", "Ledger";
    block: "区块 {0}", "Block {0}";
    finality: "{0} 毫秒内成为定局（中位数）", "final within {0} ms (median)";
    finality_unknown: "还没有区块", "no block yet";
    peers: "已连接 {0} 个邻居节点", "{0} neighbours' nodes connected";
    syncing: "正在追赶账本，数字可能不是最新的。", "Catching up with the ledger: figures may be behind.";
    lost: "连接中断，显示的是之前的数字。", "Connection lost: these are earlier figures.";
    explain: "邻居的电价是供电公司买价和卖价的中间，再加上路程的电网费。没有中间商。",
        "Your neighbours' sun costs the middle between what the supplier charges and pays, plus grid fees for the distance. Nobody in the middle.";
    denied_title: "请用带令牌的链接打开", "Open this page with its link";
    denied: "在节点上运行 commonwatt status --page --config commonwatt.toml 会打印出带 ?token= 的链接（演示在启动时打印），用它打开一次；之后这个浏览器会被记住。",
        "On the node, commonwatt status --page --config commonwatt.toml prints the link (with ?token=…); a demo prints it at its start. Once is enough: this browser is then remembered.";
    unavailable_title: "暂时没有数据", "No figures for the moment";
    unavailable: "节点在运行，但现在读不到账本数据库。几秒后请刷新。",
        "The node runs, but its ledger database does not answer. Reload in a few seconds.";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<usize> {
        (0..10).filter(|place| text.contains(&format!("{{{place}}}"))).collect()
    }

    #[test]
    fn every_text_has_the_same_places_in_every_language() {
        for (name, chinese, english) in ALL {
            assert!(!chinese.is_empty() && !english.is_empty(), "{name}");
            assert_eq!(places(chinese), places(english), "{name}");
        }
    }

    #[test]
    fn the_language_is_the_first_one_the_browser_asks_for_that_exists() {
        assert_eq!(Language::accepted("de-DE,en-GB;q=0.8,zh;q=0.5"), Some(Language::English));
        assert_eq!(Language::accepted("zh-Hans-CN"), Some(Language::Chinese));
        assert_eq!(Language::accepted("fr, de"), None);
        assert_eq!(Language::from_tag("EN"), Some(Language::English));
    }

    #[test]
    fn values_go_into_their_places() {
        assert_eq!(fill("a {1} b {0}", &["x", "y"]), "a y b x");
    }
}
