// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The key switch of systemd/WIRING.md on a chip that is not there, for test images only.
 *
 * Six lines: key-a, key-b, relay (inputs, low is active), feed-a, feed-b, lamp (outputs). An input is low only while its
 * contact is closed and its feed is on, so that the interlock's test pulses find what they would find on the wires; the
 * kernel's gpio-sim has no way to let one line follow another. The relay's mirror contact is low while the key is open.
 *
 * /sys/devices/platform/key-wires/key    1: turned on, 0: off. Off at start, as a key that nobody has turned.
 * /sys/devices/platform/key-wires/lamp   what the interlock shows (read-only)
 */
#include <linux/bits.h>
#include <linux/gpio/driver.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irq_work.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/spinlock.h>
#include <linux/sysfs.h>

enum { KEY_A, KEY_B, RELAY, FEED_A, FEED_B, LAMP, LINES };

static const char *const names[LINES] = { "key-a", "key-b", "relay", "feed-a", "feed-b", "lamp" };

static struct {
	struct gpio_chip chip;
	struct platform_device *device;
	struct irq_work edges;
	raw_spinlock_t lock;
	bool key;
	unsigned long outputs;  /* of the three output lines */
	unsigned long levels;   /* of the three input lines, as last told */
	unsigned long pending;  /* input lines that changed */
	unsigned long unmasked;
} wires;

/* What the inputs are, from the key and the feeds. */
static unsigned long inputs(void)
{
	unsigned long levels = 0;

	if (!(wires.key && (wires.outputs & BIT(FEED_A))))
		levels |= BIT(KEY_A);
	if (!(wires.key && (wires.outputs & BIT(FEED_B))))
		levels |= BIT(KEY_B);
	if (wires.key)
		levels |= BIT(RELAY);
	return levels;
}

static void settle(void)
{
	unsigned long now = inputs();

	wires.pending |= (now ^ wires.levels) & wires.unmasked;
	wires.levels = now;
	if (wires.pending)
		irq_work_queue(&wires.edges);
}

static void tell_edges(struct irq_work *work)
{
	unsigned long changed, flags;
	unsigned int line;

	raw_spin_lock_irqsave(&wires.lock, flags);
	changed = wires.pending;
	wires.pending = 0;
	raw_spin_unlock_irqrestore(&wires.lock, flags);
	for_each_set_bit(line, &changed, LINES)
		generic_handle_domain_irq(wires.chip.irq.domain, line);
}

static int wires_get(struct gpio_chip *chip, unsigned int line)
{
	unsigned long flags;
	int level;

	raw_spin_lock_irqsave(&wires.lock, flags);
	level = !!((line < FEED_A ? wires.levels : wires.outputs) & BIT(line));
	raw_spin_unlock_irqrestore(&wires.lock, flags);
	return level;
}

static void wires_set(struct gpio_chip *chip, unsigned int line, int value)
{
	unsigned long flags;

	if (line < FEED_A)
		return;
	raw_spin_lock_irqsave(&wires.lock, flags);
	if (value)
		wires.outputs |= BIT(line);
	else
		wires.outputs &= ~BIT(line);
	settle();
	raw_spin_unlock_irqrestore(&wires.lock, flags);
}

static int wires_get_direction(struct gpio_chip *chip, unsigned int line)
{
	return line < FEED_A ? GPIO_LINE_DIRECTION_IN : GPIO_LINE_DIRECTION_OUT;
}

static int wires_input(struct gpio_chip *chip, unsigned int line)
{
	return line < FEED_A ? 0 : -EINVAL;
}

static int wires_output(struct gpio_chip *chip, unsigned int line, int value)
{
	if (line < FEED_A)
		return -EINVAL;
	wires_set(chip, line, value);
	return 0;
}

/* A resistor on the board's side changes nothing about these wires. */
static int wires_config(struct gpio_chip *chip, unsigned int line, unsigned long config)
{
	return 0;
}

static void wires_mask(struct irq_data *data)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&wires.lock, flags);
	wires.unmasked &= ~BIT(irqd_to_hwirq(data));
	raw_spin_unlock_irqrestore(&wires.lock, flags);
	gpiochip_disable_irq(&wires.chip, irqd_to_hwirq(data));
}

static void wires_unmask(struct irq_data *data)
{
	unsigned long flags;

	gpiochip_enable_irq(&wires.chip, irqd_to_hwirq(data));
	raw_spin_lock_irqsave(&wires.lock, flags);
	wires.unmasked |= BIT(irqd_to_hwirq(data));
	raw_spin_unlock_irqrestore(&wires.lock, flags);
}

static int wires_type(struct irq_data *data, unsigned int type)
{
	return 0;
}

static const struct irq_chip wires_irq = {
	.name = "key-wires",
	.irq_mask = wires_mask,
	.irq_unmask = wires_unmask,
	.irq_set_type = wires_type,
	.flags = IRQCHIP_IMMUTABLE,
	GPIOCHIP_IRQ_RESOURCE_HELPERS,
};

static ssize_t key_show(struct device *device, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%d\n", wires.key);
}

static ssize_t key_store(struct device *device, struct device_attribute *attribute, const char *text, size_t count)
{
	unsigned long flags;
	bool on;

	if (kstrtobool(text, &on))
		return -EINVAL;
	raw_spin_lock_irqsave(&wires.lock, flags);
	wires.key = on;
	settle();
	raw_spin_unlock_irqrestore(&wires.lock, flags);
	return count;
}
static DEVICE_ATTR_RW(key);

static ssize_t lamp_show(struct device *device, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%d\n", !!(wires.outputs & BIT(LAMP)));
}
static DEVICE_ATTR_RO(lamp);

static struct attribute *wires_attributes[] = { &dev_attr_key.attr, &dev_attr_lamp.attr, NULL };
static const struct attribute_group wires_group = { .attrs = wires_attributes };

static int __init wires_start(void)
{
	int error;

	raw_spin_lock_init(&wires.lock);
	wires.edges = IRQ_WORK_INIT_HARD(tell_edges);
	wires.levels = inputs();
	wires.device = platform_device_register_simple("key-wires", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(wires.device))
		return PTR_ERR(wires.device);
	wires.chip.label = "key-wires";
	wires.chip.parent = &wires.device->dev;
	wires.chip.owner = THIS_MODULE;
	wires.chip.base = -1;
	wires.chip.ngpio = LINES;
	wires.chip.names = names;
	wires.chip.get = wires_get;
	wires.chip.set = wires_set;
	wires.chip.get_direction = wires_get_direction;
	wires.chip.direction_input = wires_input;
	wires.chip.direction_output = wires_output;
	wires.chip.set_config = wires_config;
	gpio_irq_chip_set_chip(&wires.chip.irq, &wires_irq);
	wires.chip.irq.handler = handle_simple_irq;
	wires.chip.irq.default_type = IRQ_TYPE_NONE;
	error = gpiochip_add_data(&wires.chip, NULL);
	if (error)
		goto no_chip;
	error = sysfs_create_group(&wires.device->dev.kobj, &wires_group);
	if (!error)
		return 0;
	gpiochip_remove(&wires.chip);
no_chip:
	platform_device_unregister(wires.device);
	return error;
}

static void __exit wires_stop(void)
{
	sysfs_remove_group(&wires.device->dev.kobj, &wires_group);
	gpiochip_remove(&wires.chip);
	irq_work_sync(&wires.edges);
	platform_device_unregister(wires.device);
}

module_init(wires_start);
module_exit(wires_stop);
MODULE_DESCRIPTION("Turnkey's key switch on wires that are not there");
MODULE_LICENSE("GPL");
