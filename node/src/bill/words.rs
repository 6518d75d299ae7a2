//! Every text of a bill, in every language. One line holds all languages of a text, so a missing one does not compile.

use super::items::What;
use super::sheet::Role;
pub use crate::http::Language;

macro_rules! catalogue {
    ($($name:ident: $chinese:literal, $english:literal;)+) => {
        /// The texts of one language; each is its own description.
        #[derive(Debug)]
        pub struct Words {
            $(#[doc = $english] pub $name: &'static str,)+
        }

        const CHINESE: Words = Words { $($name: $chinese,)+ };
        const ENGLISH: Words = Words { $($name: $english,)+ };

        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $chinese, $english),)+];
    };
}

catalogue! {
    title: "电费账单", "Electricity bill";
    cover_title: "电费账单汇总", "Electricity bills, summary";
    number: "账单号", "Bill no.";
    home: "住户", "Home";
    connected: "接入点", "connected at";
    period: "账期", "Period";
    days_none: "本月没有天数，只有前期的补记", "no days of this month; earlier days only";
    state: "状态", "State";
    is_final: "已完结", "final";
    is_open: "未完结，结算至 {0}", "open, settled until {0}";
    is_open_nothing: "未完结", "open";
    contract_holder: "签约人", "contract holder";
    occupant: "住户成员", "occupant";
    asset_owner: "设备所有人", "asset owner";
    to_pay: "应付", "To pay";
    to_receive: "应收", "To receive";
    nothing_to_pay: "无需付款", "Nothing to pay";
    already_paid: "电费已从预付账户结清。", "The energy was already settled on your account.";
    month_cost: "本月费用", "This month cost";
    month_earned: "本月收入", "This month earned";
    energy: "电量（kWh）", "Energy, kWh";
    cost: "费用（{0}）", "Cost, {0}";
    total: "合计", "Total";
    community: "来自社区", "From the community";
    grid: "来自电网", "From the grid";
    community_short: "社区", "community";
    grid_short: "电网", "grid";
    taken: "用电", "Taken";
    given: "送出", "Given";
    of_taken: "用电来源", "Where it came from";
    of_given: "送出去向", "Where it went";
    meter: "电表", "Meter";
    meter_start: "期初读数", "at the start";
    meter_end: "期末读数", "at the end";
    meter_unread: "未读到", "not read then";
    meter_import: "用电 {0}", "taken {0}";
    meter_export: "送出 {0}", "given {0}";
    meter_agreed: "交接时约定", "agreed at the handover";
    energy_taken: "用电电费", "Energy taken";
    fees_taken: "用电电网费", "Network fees on it";
    energy_given: "送出电费", "Energy given";
    fees_given: "送出电网费", "Network fees on it";
    corrections: "更正", "Corrections";
    other: "其他", "Other";
    losses: "电网损耗分摊", "Your part of the network's losses";
    credit_used: "已用信用额度（上限 {0}）", "Credit used, of {0}";
    incentive: "共享奖励（由外部支付，不计入本账单）", "Sharing incentive, due from outside and not in this bill";
    provisional: "{0} 个时段只有暂定结果，未计费", "{0} intervals have only provisional results, which are not billed";
    sum_energy: "电费与电网费", "Energy and network fees";
    sum_all: "总计", "Total";
    payable_to: "归 {0}", "to {0}";
    settlement: "结算", "What there is to pay";
    due_energy: "电费与电网费", "Energy and network fees";
    due_lines: "税费与固定费用", "Levies, taxes and fixed charges";
    due_settled: "已从账户扣除", "Already settled on the account";
    due_carried: "上期尾数", "Carried from the last bill";
    due_exact: "应付（未取整）", "To pay, exactly";
    due_rounded: "应付（取整到分）", "To pay, rounded up to whole cents";
    due_next: "转入下期的尾数", "Carried to the next bill, in your favour";
    outside: "电网一栏由您的供电公司另行开票，这里仅供参考。",
        "The grid's column is on your supplier's own bill; it stands here for information.";
    account: "账户（{0}）", "Your account, {0}";
    opening: "期初余额", "Balance before";
    closing: "期末余额", "Balance after";
    posted_forward: "提前交易", "Traded ahead";
    posted_local: "与邻居", "With neighbours";
    posted_supplier: "与供电公司", "With the supplier";
    posted_late: "补读结算", "Late readings";
    posted_correction: "更正", "Corrections";
    posted_loss: "电网损耗", "Network losses";
    deposit: "存入 {0}", "Paid in {0}";
    withdrawal: "取出 {0}", "Paid out {0}";
    founding: "创始", "at the founding";
    claims_paid: "偿还欠供电公司的款", "Paid of what was owed to the supplier";
    held: "供电公司暂欠", "The supplier could not pay at once";
    received: "供电公司补付", "The supplier paid later";
    owed: "仍欠供电公司（从下次存入中先扣）", "Still owed to the supplier; paid first from your next deposit";
    credited: "供电公司仍欠您", "The supplier still owes you";
    how: "怎么算出来的", "How it was computed";
    item: "项目", "Item";
    quantity: "数量", "Quantity";
    rate: "单价", "Price";
    charge: "金额（{0}）", "Amount, {0}";
    prices: "{0} 种电价", "{0} prices";
    several: "多段距离", "several distances";
    days: "{0} 天", "{0} days";
    of_subtotal: "{0} ‰ 的 {1}", "{0} ‰ of {1}";
    bought_forward: "提前从邻居买入", "Bought ahead from neighbours";
    bought: "从邻居买入", "Bought from neighbours";
    bought_fees: "电网费，邻居", "Network fees, neighbours";
    grid_import: "从供电公司买入", "Bought from the supplier";
    grid_import_fees: "电网费，供电公司", "Network fees, supplier";
    corrected_import: "更正用电", "Corrected import";
    sold_forward: "提前卖给邻居", "Sold ahead to neighbours";
    sold: "卖给邻居", "Sold to neighbours";
    sold_fees: "电网费，卖给邻居", "Network fees, sold to neighbours";
    grid_export: "卖给供电公司", "Sold to the supplier";
    grid_export_fees: "电网费，卖给供电公司", "Network fees, sold to the supplier";
    corrected_export: "更正送出", "Corrected export";
    counts: "{0} 个时段，其中 {1} 个当时没有读数；{2} 个补读，{3} 个更正。",
        "{0} intervals, {1} of them without a reading in time; {2} read late, {3} corrected.";
    verify: "每个时段的每一笔都在 CSV 中：数量 × 单价 = 金额。账本 {0}。",
        "The CSV holds every interval: energy × price = amount. Ledger {0}.";
    payment: "付款方式", "How to pay";
    recipient: "收件人", "For";
    sheet: "账单", "Bill";
    together: "{0} 份账单合计", "{0} bills together";
}

/// The texts of a language.
#[must_use]
pub const fn words(language: Language) -> &'static Words {
    match language {
        Language::Chinese => &CHINESE,
        Language::English => &ENGLISH,
    }
}

/// Puts `values` into the places of `template`, in one pass: a value that looks like a place stays as it is.
#[must_use]
pub fn fill(template: &str, values: &[&str]) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        text.push_str(before);
        let place = from.get(1..2).and_then(|digit| digit.parse::<usize>().ok());
        match (place.and_then(|place| values.get(place)), from.get(2..3)) {
            (Some(value), Some("}")) => {
                text.push_str(value);
                rest = from.get(3..).unwrap_or_default();
            }
            _ => {
                text.push('{');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    text.push_str(rest);
    text
}

impl Words {
    /// What an item is called.
    #[must_use]
    pub const fn what(&self, what: What) -> &'static str {
        match what {
            What::BoughtForward => self.bought_forward,
            What::Bought => self.bought,
            What::BoughtFees => self.bought_fees,
            What::GridImport => self.grid_import,
            What::GridImportFees => self.grid_import_fees,
            What::CorrectedImport => self.corrected_import,
            What::Losses => self.losses,
            What::SoldForward => self.sold_forward,
            What::Sold => self.sold,
            What::SoldFees => self.sold_fees,
            What::GridExport => self.grid_export,
            What::GridExportFees => self.grid_export_fees,
            What::CorrectedExport => self.corrected_export,
            What::Other => self.other,
        }
    }

    /// What a role is called.
    #[must_use]
    pub const fn role(&self, role: Role) -> &'static str {
        match role {
            Role::ContractHolder => self.contract_holder,
            Role::Occupant => self.occupant,
            Role::AssetOwner => self.asset_owner,
        }
    }

    /// What the ledger's word for a movement is called; one that is not known stays as it is.
    #[must_use]
    pub fn posted<'a>(&self, kind: &'a str) -> &'a str {
        match kind {
            "forward" => self.posted_forward,
            "local" => self.posted_local,
            "supplier" => self.posted_supplier,
            "late" => self.posted_late,
            "correction" => self.posted_correction,
            "loss" => self.posted_loss,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_the_same_places_in_every_language() {
        let places =
            |text: &str| (0..10).filter(|place| text.contains(&format!("{{{place}}}"))).collect::<Vec<_>>();
        for (name, chinese, english) in ALL {
            assert!(!chinese.is_empty() && !english.is_empty(), "{name}");
            assert_eq!(places(chinese), places(english), "{name}");
        }
    }

    #[test]
    fn a_value_that_looks_like_a_place_stays_as_it_is() {
        assert_eq!(fill("a {1} b {0} {2} {x", &["{1}", "y"]), "a y b {1} {2} {x");
    }
}
