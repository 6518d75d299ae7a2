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
    line_losses: "线路损耗", "Losses of the lines";
    incentive: "另有外部奖励 {0}，不在以上数字里。", "In addition {0} are due from outside for sharing; they are not in these figures.";
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
    market_ahead: "未来 24 小时", "The next 24 hours";
    market_chart_summary: "未来电价（含电网费）：从供电公司买 {0}，邻居之间 {1}，卖给供电公司 {2}。",
        "Coming prices with grid fees: from the supplier {0}, among neighbours {1}, to the supplier {2}.";
    market_sold: "已卖出 {0}，{1}，每千瓦时 {2}。", "Sold {0} for {1} at {2}.";
    market_bought: "已买入 {0}，{1}，每千瓦时 {2}。", "Bought {0} for {1} at {2}.";
    market_in_all: "（合计 {0}）", "{0} in all";
    market_offer: "挂单卖出 {0}，{1}，不低于 {2}。", "Offers {0} for {1} at {2} or more.";
    market_wanted: "挂单买入 {0}，{1}，不高于 {2}。", "Wants {0} for {1} at {2} or less.";
    market_until: "{0} 前可以撤回。", "Can be taken back until {0}.";
    market_pending: "正在记入账本。", "On its way to the ledger.";
    market_more: "还有 {0} 项。", "And {0} more.";
    market_nothing: "没有提前的交易。计量之后，邻居之间的电量会自动匹配。",
        "Nothing traded ahead. What the meter shows is matched with your neighbours afterwards, by itself.";
    market_off: "这个社区不做提前交易：计量之后，邻居之间的电量会自动匹配。",
        "This community does not trade ahead: what the meters show is matched among neighbours afterwards, by itself.";
    market_breach: "{0} 的用电或送电超过了电网运营方的上限，请检查大功率设备。",
        "At {0} this home went over the grid operator's limit. Look at its large devices.";
    plan_title: "我的计划", "My plan";
    goal_save: "目标：省钱。", "Goal: save money.";
    goal_green: "目标：多用邻里的阳光。", "Goal: stay green.";
    goal_independent: "目标：尽量不依赖外部。", "Goal: stay independent.";
    plan_nothing: "接下来两天没有要安排的设备用电。", "Nothing to be moved in the next two days.";
    plan_car: "{0}–{1} 给汽车充电，{2}", "{0}–{1} charges the car, {2}";
    plan_heat: "{0}–{1} 供热，{2}", "{0}–{1} heats, {2}";
    plan_charge: "{0}–{1} 给电池充电，{2}", "{0}–{1} charges the battery, {2}";
    plan_discharge: "{0}–{1} 电池放电，{2}", "{0}–{1} the battery gives {2}";
    plan_local: "，预计其中 {0} 与邻居交换", ", of it {0} expected from or to neighbours";
    plan_later: "以后", "later";
    plan_saving: "两天里预计省 {0}。", "Expected to save {0} in two days.";
    plan_forecast: "预测依据 {0} 天的记录。", "The forecast rests on {0} days.";
    plan_load_error: "每小时误差：用电 ±{0}", "Off by, each hour: load ±{0}";
    plan_sun_error: "，光伏 ±{0}", ", sun ±{0}";
    plan_trial: "设备没有接入：这里只是打算，什么也不会动。", "The devices are not connected: this is only a plan, nothing is moved.";
    plan_rests: "本月比没有代理时花得多，到月底前设备自行运行，也不交易。", "This month the home is behind what it would have been without its agent: until the month ends the agent rests, and devices are left to themselves.";
    plan_stopped: "本月提前交易出现亏损，已停到月底。", "Trading ahead has cost money this month and stays off until it ends.";
    rules_link: "规则与限额", "Rules and limits";
    rules_title: "规则与限额", "Rules and limits";
    rules_price: "价格", "Prices";
    rules_price_now: "{0} 起：供电公司收 {1}、付 {2}，每千瓦时，含电网费。",
        "From {0}: the supplier charges {1} and pays {2} per kWh, grid fees included.";
    rules_price_local: "本地的电 {0}，不含电网费。", "Local energy stands at {0} before grid fees.";
    rules_share: "约定的本地发电份额 {0}%，电量的 {1}% 参加分享。", "Its agreed share of local generation is {0} %, and {1} % of its energy takes part.";
    rules_part: "电量的 {0}% 参加分享。", "{0} % of its energy takes part in sharing.";
    rules_caps: "没有第二个签名，电价不会低于 {0} 或高于 {1}。", "Without a second signature no price is below {0} or above {1}.";
    rules_sharing_static: "本地发的电按约定的份额分给各户。", "Local generation is divided by the shares that were agreed on.";
    rules_sharing_dynamic: "本地发的电按各户在这个时段的用电量分配。", "Local generation is divided by what each home uses in the interval.";
    rules_sharing_incentive: "电费照常和供电公司结算；同时发电和用电的部分另有奖励，由外部支付。",
        "Everybody settles with the supplier as ever; what is generated and used at the same time earns an incentive, paid from outside.";
    rules_forward: "提前交易", "Trading ahead";
    rules_posted: "截止时，挂单按供电公司买卖价的中间成交，近的先成交；一张挂单改变不了这个价格。",
        "At the gate orders meet at the middle of the supplier's prices, nearest first. No order can move that price.";
    rules_auction: "每个时段在截止时做一次密封竞价，同一节点的人都按同一价格成交。",
        "Each interval has one sealed auction at its gate; everybody at a node trades at its one price.";
    rules_window: "每个时段开始前 {0} 小时起接受挂单，开始前 {1} 分钟截止。", "Orders are taken from {0} hours before an interval until {1} minutes before it.";
    rules_freeze: "截止前最后 {0} 分钟，挂单只能增加，不能撤回、减少或变差。", "In the last {0} minutes before the gate an order may only grow; it cannot be taken back, reduced or made worse.";
    rules_minimum: "一张挂单至少 {0} Wh，一户在一个时段里要么买要么卖。", "An order is for at least {0} Wh, and a home buys or sells in one interval, not both.";
    rules_quota: "每个时段最多 {0} 张挂单、{1} 次更改，每小时最多 {2} 条记录。", "At most {0} open orders and {1} changes an interval, {2} entries an hour.";
    rules_band: "限价在供电公司付的价和收的价之间（含电网费），所以只要按约定交付，就不会比供电公司差。",
        "A limit lies between what the supplier pays and charges this home, so a trade that is kept is never worse than the supplier.";
    rules_envelope: "电网运营方没有另行公布时，提前交易最多使用每段线路容量的 {0}%。", "Where the grid operator published nothing else, trading ahead uses at most {0} % of what a line carries.";
    rules_home: "这一户", "This home";
    rules_connection: "每个时段最多从电网取 {0}，送入 {1}。", "In one interval its connection takes at most {0} and gives at most {1}.";
    rules_capped: "未来 24 小时里有 {0} 个时段，电网运营方把上限调低了。", "In {0} intervals of the next 24 hours the grid operator set a lower limit.";
    rules_account: "账户 {0}，为挂单和已成交的部分保留 {1}，可用 {2}。", "On its account are {0}; {1} are held back for orders and trades, {2} are free.";
    rules_prepaid: "先存后用：账户不会低于零，邻居的账一定付得出。", "Paid in beforehand: no account falls below zero, so every neighbour is paid.";
    rules_statement: "按月结算，账户最多可以低于零 {0}。", "Settled by the month; the account may go below zero by {0}.";
    rules_settlement: "结算", "Settlement";
    rules_due: "每个时段 {0} 分钟，结束 {1}后结算。", "An interval lasts {0} minutes and is settled {1} after its end.";
    hours: "{0} 小时", "{0} hours";
    minutes: "{0} 分钟", "{0} minutes";
    rules_readings_node: "以各户自己的电表读数为准，读数由节点签名。", "What counts are the readings of each home's own meter, signed by its node.";
    rules_readings_operator: "以计量运营方的读数为准；在那之前，自己的读数给出临时结果。", "What counts are the metering operator's readings; until they come, the home's own give a provisional result.";
    rules_leg_ledger: "供电公司的部分也在账本上支付。", "The supplier's part is paid on the ledger too.";
    rules_leg_outside: "供电公司的部分按各户自己的合同支付，这里只显示。", "The supplier's part is paid by each home's own contract and only shown here.";
    rules_losses_recorded: "线路损耗只记录，没有人为它付钱。", "What gets lost in the lines is recorded; nobody here pays for it.";
    rules_losses_shared: "线路损耗按用电量由大家分担。", "What gets lost in the lines is shared by what each home takes.";
    rules_way: "到电网的路程", "The way to the grid";
    rules_way_none: "这一户直接接在公共电网上，没有路程费。", "This home is connected at the public grid itself: there are no fees for the way.";
    rules_edge: "线路", "Line";
    rules_fee_up: "送出费", "Fee, giving";
    rules_fee_down: "取用费", "Fee, taking";
    rules_limit_up: "送出上限", "Limit, giving";
    rules_limit_down: "取用上限", "Limit, taking";
    unlimited: "不限", "none";
    rules_privacy: "谁能看到什么", "Who sees what";
    rules_privacy_text: "别人的挂单是密封的，你的也是。社区的总数从五户起才显示，而且没有一户占得太多；竞价的价格要有三户买、三户卖才显示。",
        "Orders of others are sealed, and so are yours. Totals of the community are shown from five homes up and where none has too large a part; the price of an auction only with three who bought and three who sold.";
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
    account_lasts: "按最近的用电大约够 {0} 天", "Days left at recent use: {0}";
    account_low: "余额不足三天用电，请尽快存入", "Less than three days are left: time for a deposit";
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
